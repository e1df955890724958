using System.Reflection;
using System.Reflection.Emit;
using Priori.Recipes;
using Priori.Reproduction;

namespace Priori.Tests;

/// <summary>Who may call whom, top to bottom only: Cli, Recipes, Area, {Training, Nn, Numerics, Metrics, Data}, Runtime.</summary>
public class LayeringTests
{
    private static readonly string[] s_shared = ["Training", "Nn", "Numerics", "Metrics", "Data"];
    private static readonly string[] s_proof = ["Reproduction", "Reporting"];

    [Fact]
    public void Rooms_call_only_the_rooms_below_them()
    {
        List<string> broken = [];
        foreach (Type type in typeof(IRecipe).Assembly.GetTypes())
        {
            string from = Room(type);
            if (from.Length == 0) continue;
            foreach (string to in Uses(type).Where(t => t.Assembly == type.Assembly).Select(Room).Where(r => r.Length > 0 && r != from).Distinct())
                if (!MayCall(from, to)) broken.Add($"{type.FullName} ({from}) uses {to}");
        }
        Assert.Empty(broken.Distinct());
    }

    [Fact]
    public void The_check_sees_calls_inside_method_bodies()
    {
        Type recipeRunner = typeof(RecipeRunner);
        Assert.Contains(Uses(recipeRunner).Select(Room), room => room == "Runtime");
        Assert.False(MayCall("Data", "Training"));
        Assert.False(MayCall("NoisyLabels", "Merging"));
        Assert.False(MayCall("Runtime", "Data"));
        Assert.False(MayCall("NoisyLabels", "Reproduction"));
        Assert.True(MayCall("NoisyLabels", "Training"));
    }

    [Fact]
    public void A_recipe_is_named_and_placed_like_its_method()
    {
        foreach (IRecipe recipe in RecipeCatalog.All)
        {
            string name = string.Concat(recipe.Id.Split('-').Select(w => char.ToUpperInvariant(w[0]) + w[1..])) + "Recipe";
            Assert.Equal($"Priori.Recipes.{recipe.Area}.{name}", recipe.GetType().FullName);
        }
    }

    private static string Room(Type type)
    {
        while (type.HasElementType) type = type.GetElementType()!;
        string[] parts = (type.Namespace ?? "").Split('.');
        return parts is ["Priori", var room, ..] ? room : "";
    }

    private static bool MayCall(string from, string to)
    {
        if (to == "Runtime") return true;
        if (from == "Runtime") return false;
        // Data is the lowest of the shared rooms, Training the highest; each may use those before it.
        string[] order = ["Data", "Numerics", "Metrics", "Nn", "Training"];
        if (s_shared.Contains(from)) return s_shared.Contains(to) && Array.IndexOf(order, to) < Array.IndexOf(order, from);
        if (s_shared.Contains(to)) return true;
        if (s_proof.Contains(from)) return s_proof.Contains(to);
        return false; // From an area: neither another area nor the proof above it.
    }

    private static IEnumerable<Type> Uses(Type type)
    {
        const BindingFlags All = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
        IEnumerable<Type?> used = type.GetInterfaces().Append(type.BaseType)
            .Concat(type.GetFields(All).Select(f => f.FieldType))
            .Concat(type.GetProperties(All).Select(p => p.PropertyType));
        foreach (MethodBase method in type.GetMethods(All).Cast<MethodBase>().Concat(type.GetConstructors(All)))
        {
            used = used.Concat(method.GetParameters().Select(p => p.ParameterType));
            if (method is MethodInfo info) used = used.Append(info.ReturnType);
            if (method.GetMethodBody() is not { } body) continue;
            used = used.Concat(body.LocalVariables.Select(v => v.LocalType)).Concat(Called(method, body));
        }
        return used.Where(t => t is not null).SelectMany(t => t!.IsGenericType ? t.GetGenericArguments().Append(t) : [t!]);
    }

    private static IEnumerable<Type?> Called(MethodBase method, MethodBody body)
    {
        byte[] code = body.GetILAsByteArray()!;
        Type[] typeArguments = method.DeclaringType!.IsGenericType ? method.DeclaringType.GetGenericArguments() : [];
        Type[] methodArguments = method.IsGenericMethod ? method.GetGenericArguments() : [];
        for (int i = 0; i < code.Length;)
        {
            OpCode op = code[i] == 0xFE ? s_twoByte[code[i + 1]] : s_oneByte[code[i]];
            i += op.Size;
            int operand = op.OperandType switch
            {
                OperandType.InlineNone => 0,
                OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
                OperandType.InlineVar => 2,
                OperandType.InlineI8 or OperandType.InlineR => 8,
                OperandType.InlineSwitch => 4 + 4 * BitConverter.ToInt32(code, i),
                _ => 4,
            };
            if (op.OperandType is OperandType.InlineMethod or OperandType.InlineField or OperandType.InlineType or OperandType.InlineTok)
            {
                MemberInfo? member = method.Module.ResolveMember(BitConverter.ToInt32(code, i), typeArguments, methodArguments);
                yield return member as Type ?? member?.DeclaringType;
            }
            i += operand;
        }
    }

    private static readonly OpCode[] s_oneByte = OpCodesOf(1), s_twoByte = OpCodesOf(2);

    private static OpCode[] OpCodesOf(int size)
    {
        var table = new OpCode[256];
        foreach (OpCode op in typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => (OpCode)f.GetValue(null)!))
            if (op.Size == size) table[op.Value & 0xFF] = op;
        return table;
    }
}
