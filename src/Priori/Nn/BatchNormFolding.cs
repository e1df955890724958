namespace Priori.Nn;

/// <summary>
/// Folds batch normalisation into the linear or convolution layer before it (Jacob et al., CVPR 2018, section 3.2): in evaluation mode both are one affine map,
/// w gamma / sqrt(var + eps) and (b - mean) gamma / sqrt(var + eps) + beta.
/// </summary>
public static class BatchNormFolding
{
    /// <summary>The same function without the normalisations that directly follow a linear or convolution layer which nothing else reads; others stay.</summary>
    /// <param name="architecture">The network.</param>
    /// <param name="state">Tensors by name.</param>
    /// <returns>The description and new tensors by name; tensors of other layers are the given ones.</returns>
    /// <exception cref="ArgumentException">A tensor is missing.</exception>
    public static (Architecture Architecture, Dictionary<string, Tensor> State) Fold(Architecture architecture, IReadOnlyDictionary<string, Tensor> state)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        ArgumentNullException.ThrowIfNull(state);
        using var ungraphed = no_grad();
        Tensor Get(string name) => state.TryGetValue(name, out Tensor? t) ? t : throw new ArgumentException($"The checkpoint has no tensor '{name}', which the architecture needs.", nameof(state));
        int count = architecture.Layers.Count;
        string[][] inputs = [.. Enumerable.Range(0, count).Select(i => architecture.InputsOf(i).ToArray())];
        var folded = state.ToDictionary();
        var replaced = new Dictionary<string, string>();
        var biased = new HashSet<string>();
        for (int i = 0; i < count; i++)
        {
            Layer norm = architecture.Layers[i];
            if (norm.Kind != LayerKind.BatchNorm || architecture.Layers.FirstOrDefault(l => l.Name == inputs[i][0]) is not { Kind: LayerKind.Linear or LayerKind.Conv2d } layer
                || inputs.Sum(x => x.Count(n => n == layer.Name)) != 1) continue;
            Tensor weight = Get($"{layer.Name}.weight"), mean = Get($"{norm.Name}.running_mean");
            using (NewDisposeScope())
            {
                Tensor scale = Get($"{norm.Name}.weight").to(float64) / (Get($"{norm.Name}.running_var").to(float64) + norm.Epsilon).sqrt();
                Tensor bias = ((layer.Bias ? Get($"{layer.Name}.bias").to(float64) : zeros_like(scale)) - mean.to(float64)) * scale + Get($"{norm.Name}.bias").to(float64);
                long[] rows = [-1, .. Enumerable.Repeat(1L, (int)weight.dim() - 1)];
                folded[$"{layer.Name}.weight"] = (weight.detach().to(float64) * scale.view(rows)).to(weight.dtype).MoveToOuterDisposeScope();
                folded[$"{layer.Name}.bias"] = bias.detach().to(weight.dtype).MoveToOuterDisposeScope();
            }
            foreach (string vector in new[] { "weight", "bias", "running_mean", "running_var", "num_batches_tracked" }) folded.Remove($"{norm.Name}.{vector}");
            replaced[norm.Name] = layer.Name;
            biased.Add(layer.Name);
        }
        IReadOnlyList<Layer> layers = [.. Enumerable.Range(0, count).Where(i => !replaced.ContainsKey(architecture.Layers[i].Name)).Select(i => architecture.Layers[i] with
        {
            Inputs = architecture.Layers[i].Inputs is null && !replaced.ContainsKey(inputs[i][0]) ? null : [.. inputs[i].Select(n => replaced.GetValueOrDefault(n, n))],
            Bias = architecture.Layers[i].Bias || biased.Contains(architecture.Layers[i].Name),
        })];
        return (architecture with { Layers = layers }, folded);
    }
}
