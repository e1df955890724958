namespace Priori.Continual;

internal static class ModuleScope
{
    /// <summary>Hands a module's parameters and buffers to the scope around the present one.</summary>
    public static T ToOuterScope<T>(this T module) where T : Module
    {
        foreach (Tensor tensor in module.parameters().Concat(module.buffers())) tensor.MoveToOuterDisposeScope();
        return module;
    }
}
