namespace Priori.Training;

/// <summary>
/// A running average of a module's weights, kept in a second module of the same architecture:
/// average &lt;- decay * average + (1 - decay) * weights. The average starts as a copy.
/// </summary>
public sealed class ExponentialMovingAverage
{
    private readonly (Tensor Source, Tensor Average)[] _parameters;
    private readonly (Tensor Source, Tensor Average)[] _buffers;

    /// <summary>Pairs the two modules and copies all parameters and buffers once.</summary>
    /// <param name="source">The module in training.</param>
    /// <param name="average">A module of the same architecture; its parameters stop requiring gradients. It belongs to the learner's modules, so that checkpoints carry it.</param>
    /// <param name="averageBuffers">Whether floating-point buffers (batch-norm statistics) are averaged too; otherwise the average module keeps its own.</param>
    /// <exception cref="ArgumentException">The modules differ in names or shapes.</exception>
    public ExponentialMovingAverage(Module source, Module average, bool averageBuffers = false)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(average);
        _parameters = Pair(source.named_parameters().Select(p => (p.name, (Tensor)p.parameter)), average.named_parameters().Select(p => (p.name, (Tensor)p.parameter)));
        var buffers = Pair(source.named_buffers().Select(b => (b.name, b.buffer)), average.named_buffers().Select(b => (b.name, b.buffer)));
        using (no_grad())
        {
            foreach ((Tensor from, Tensor to) in _parameters.Concat(buffers)) to.copy_(from);
        }
        foreach ((_, Tensor parameter) in _parameters) parameter.requires_grad = false;
        _buffers = averageBuffers ? [.. buffers.Where(b => b.Source.is_floating_point())] : [];
    }

    /// <summary>One update.</summary>
    /// <param name="decay">Share of the old average, in [0, 1].</param>
    public void Update(double decay)
    {
        if (decay is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(decay), decay, "The decay must be in [0, 1].");
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        foreach ((Tensor source, Tensor average) in _parameters) average.lerp_(source, 1 - decay);
        foreach ((Tensor source, Tensor average) in _buffers) average.lerp_(source, 1 - decay);
    }

    private static (Tensor Source, Tensor Average)[] Pair(IEnumerable<(string Name, Tensor Tensor)> source, IEnumerable<(string Name, Tensor Tensor)> average)
    {
        var averages = average.ToDictionary(a => a.Name, a => a.Tensor);
        (Tensor Source, Tensor Average)[] pairs = [.. source.Select(s => averages.TryGetValue(s.Name, out Tensor? a) && a.shape.SequenceEqual(s.Tensor.shape)
            ? (s.Tensor, a)
            : throw new ArgumentException($"The average module has no '{s.Name}' of shape [{string.Join(",", s.Tensor.shape)}]."))];
        return pairs.Length == averages.Count ? pairs : throw new ArgumentException("The average module has more parameters or buffers than the source.");
    }
}
