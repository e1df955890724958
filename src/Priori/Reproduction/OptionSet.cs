using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text;
using Priori.Runtime;

namespace Priori.Reproduction;

/// <summary>One option of a recipe.</summary>
/// <param name="Name">Its name on the command line.</param>
/// <param name="Description">What it is.</param>
/// <param name="Kind">Its type in words.</param>
/// <param name="Range">Allowed values in words; empty when any.</param>
/// <param name="Default">Its value, as it would be written.</param>
public sealed record OptionInfo(string Name, string Description, string Kind, string Range, string Default);

/// <summary>Options of a recipe by name: described, set from text, checked.</summary>
public static class OptionSet
{
    /// <summary>The options of a record with their present values.</summary>
    /// <param name="options">The record.</param>
    public static IReadOnlyList<OptionInfo> Describe(RecipeOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return [.. Properties(options.GetType()).Select(p => new OptionInfo(p.Name, p.Attribute.Description, Kind(p.Property.PropertyType), Range(p), Format(p.Property.GetValue(options))))];
    }

    /// <summary>A copy of the options with some set from text, all checked.</summary>
    /// <param name="options">The record.</param>
    /// <param name="values">Values by name.</param>
    /// <exception cref="BadInputException">A name is unknown, a value cannot be read or is outside its range.</exception>
    public static RecipeOptions With(RecipeOptions options, IEnumerable<KeyValuePair<string, string>> values)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(values);
        var properties = Properties(options.GetType());
        var copy = (RecipeOptions)options.GetType().GetMethod("<Clone>$")!.Invoke(options, null)!;
        foreach ((string name, string text) in values)
        {
            var property = properties.FirstOrDefault(p => p.Name == name)
                ?? throw new BadInputException($"Option '{name}' is unknown; the options are: {string.Join(", ", properties.Select(p => p.Name))}.");
            property.Property.SetValue(copy, Parse(property, text));
        }
        foreach (var property in properties) CheckRange(property, property.Property.GetValue(copy));
        copy.Validate();
        return copy;
    }

    /// <summary>What the options differ in from others of the same type, as name=value.</summary>
    internal static IReadOnlyList<string> Differences(RecipeOptions from, RecipeOptions options)
        => [.. Describe(from).Zip(Describe(options)).Where(pair => pair.First.Default != pair.Second.Default).Select(pair => $"{pair.Second.Name}={pair.Second.Default}")];

    private sealed record Entry(string Name, PropertyInfo Property, OptionAttribute Attribute);

    private static List<Entry> Properties(Type type)
        => [.. type.GetProperties().Select(p => (Property: p, Attribute: p.GetCustomAttribute<OptionAttribute>())).Where(p => p.Attribute is not null).Select(p => new Entry(KebabCase(p.Property.Name), p.Property, p.Attribute!))];

    private static string KebabCase(string name)
    {
        var text = new StringBuilder();
        for (int i = 0; i < name.Length; i++)
        {
            if (char.IsUpper(name[i]) && i > 0 && (char.IsLower(name[i - 1]) || (i + 1 < name.Length && char.IsLower(name[i + 1])))) text.Append('-');
            text.Append(char.ToLowerInvariant(name[i]));
        }
        return text.ToString();
    }

    private static Type Scalar(Type type) => Nullable.GetUnderlyingType(type) ?? type;

    private static Type? ElementOf(Type type)
        => type == typeof(string) ? null : type.IsArray ? type.GetElementType() : type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>) ? type.GetGenericArguments()[0] : null;

    private static object? Parse(Entry entry, string text)
    {
        Type type = entry.Property.PropertyType;
        if (ElementOf(type) is { } element)
        {
            string[] parts = text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            var array = Array.CreateInstance(element, parts.Length);
            for (int i = 0; i < parts.Length; i++) array.SetValue(ParseScalar(entry, element, parts[i]), i);
            return array;
        }
        if (text.Length == 0 && (Nullable.GetUnderlyingType(type) is not null || type == typeof(string))) return null;
        return ParseScalar(entry, Scalar(type), text);
    }

    private static object ParseScalar(Entry entry, Type type, string text)
    {
        var culture = CultureInfo.InvariantCulture;
        if (type == typeof(string)) return text;
        if (type == typeof(int) && int.TryParse(text, NumberStyles.Integer, culture, out int i)) return i;
        if (type == typeof(long) && long.TryParse(text, NumberStyles.Integer, culture, out long l)) return l;
        if (type == typeof(double) && double.TryParse(text, NumberStyles.Float, culture, out double d) && double.IsFinite(d)) return d;
        if (type == typeof(bool) && bool.TryParse(text, out bool b)) return b;
        if (type.IsEnum && Enum.GetNames(type).FirstOrDefault(n => KebabCase(n).Equals(text, StringComparison.OrdinalIgnoreCase) || n.Equals(text, StringComparison.OrdinalIgnoreCase)) is { } name) return Enum.Parse(type, name);
        throw new BadInputException($"Option '{entry.Name}' is a {Kind(entry.Property.PropertyType)}; '{text}' is not.");
    }

    private static void CheckRange(Entry entry, object? value)
    {
        switch (value)
        {
            case null: return;
            case string text when entry.Attribute.Choices.Length > 0 && !entry.Attribute.Choices.Contains(text):
                throw new BadInputException($"Option '{entry.Name}' is one of {string.Join(", ", entry.Attribute.Choices)}; it was '{text}'.");
            case string or bool or Enum: return;
            case IEnumerable list:
                foreach (object? item in list) CheckRange(entry, item);
                return;
            default:
                double number = Convert.ToDouble(value, CultureInfo.InvariantCulture);
                if (!(number >= entry.Attribute.Min && number <= entry.Attribute.Max))
                    throw new BadInputException($"Option '{entry.Name}' must be {Range(entry)}; it was {Format(value)}.");
                return;
        }
    }

    private static string Kind(Type type)
    {
        if (ElementOf(type) is { } element) return $"comma-separated list ({Kind(element)})";
        type = Scalar(type);
        if (type.IsEnum) return string.Join("|", Enum.GetNames(type).Select(KebabCase));
        return type == typeof(int) || type == typeof(long) ? "whole number" : type == typeof(double) ? "number" : type == typeof(bool) ? "true|false" : "text";
    }

    private static string Range(Entry entry)
    {
        OptionAttribute a = entry.Attribute;
        if (a.Choices.Length > 0) return string.Join("|", a.Choices);
        bool low = double.IsFinite(a.Min), high = double.IsFinite(a.Max);
        return low && high ? $"in {Format(a.Min)}..{Format(a.Max)}" : low ? $"at least {Format(a.Min)}" : high ? $"at most {Format(a.Max)}" : "";
    }

    private static string Format(object? value) => value switch
    {
        null => "",
        string text => text,
        bool flag => flag ? "true" : "false",
        Enum name => KebabCase(name.ToString()),
        IEnumerable list => string.Join(",", list.Cast<object?>().Select(Format)),
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };
}
