using Modules = TorchSharp.Modules;
using Parameter = TorchSharp.Modules.Parameter;

namespace Priori.Training;

/// <summary>Which labels the Fisher information takes its expectation over.</summary>
public enum FisherKind
{
    /// <summary>The labels of the data.</summary>
    Empirical,

    /// <summary>The labels that the model predicts: the exact expectation over y ~ p(y | x), one backward pass a class.</summary>
    True,
}

/// <summary>
/// The diagonal of the Fisher information matrix of a classifier: for every parameter the mean over samples of the squared gradient of log p(y | x),
/// per sample (Kirkpatrick et al., PNAS 2017; Kunstner, Hennig, Balles, NeurIPS 2019, on the two kinds). The network runs in evaluation mode.
/// For linear, convolution and normalisation layers all samples of a batch share one backward pass: the gradient of one sample is an outer product of what came in and
/// the derivative at what went out, so for [batch, features] the sum of squares is (delta^2)^T (input^2). All other parameters take a pass a sample.
/// </summary>
public static class DiagonalFisher
{
    private const long LargestOuterProducts = 1 << 22; // elements of the per-sample gradients held at once

    /// <summary>The diagonal for a network from inputs to logits.</summary>
    /// <param name="model">Inputs to logits [batch, classes].</param>
    /// <param name="inputs">Inputs [n, ...], n at least 1, on the device of the model.</param>
    /// <param name="labels">Classes, int64 [n]; only for <see cref="FisherKind.Empirical"/>.</param>
    /// <param name="kind">Which labels.</param>
    /// <param name="batchSize">Samples a pass, at least 1.</param>
    /// <returns>For every parameter a tensor of its shape, by the parameter's name.</returns>
    /// <exception cref="ArgumentException">There are no samples, or labels are missing or do not fit.</exception>
    public static Dictionary<string, Tensor> Estimate(Module<Tensor, Tensor> model, Tensor inputs, Tensor? labels, FisherKind kind = FisherKind.Empirical, int batchSize = 64)
    {
        ArgumentNullException.ThrowIfNull(model);
        return Estimate(model, model.call, inputs, labels, kind, batchSize);
    }

    /// <summary>The diagonal for some parameters of any module and any logits that are computed with it.</summary>
    /// <param name="model">The module that holds the parameters; its layers must be run with <c>call</c>, as TorchSharp's own containers do.</param>
    /// <param name="logits">Inputs to logits [batch, classes], each sample by itself.</param>
    /// <param name="inputs">Inputs [n, ...], n at least 1, on the device of the model.</param>
    /// <param name="labels">Classes, int64 [n]; only for <see cref="FisherKind.Empirical"/>.</param>
    /// <param name="kind">Which labels.</param>
    /// <param name="batchSize">Samples a pass, at least 1.</param>
    /// <param name="include">Which parameters, by name; null for all.</param>
    /// <returns>For each of these parameters a tensor of its shape, by the parameter's name.</returns>
    /// <exception cref="ArgumentException">There are no samples or parameters, or labels are missing or do not fit.</exception>
    public static Dictionary<string, Tensor> Estimate(Module model, Func<Tensor, Tensor> logits, Tensor inputs, Tensor? labels, FisherKind kind = FisherKind.Empirical, int batchSize = 64, Func<string, bool>? include = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(logits);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 1);
        if (inputs.dim() == 0 || inputs.shape[0] == 0) throw new ArgumentException("The Fisher information needs at least one sample.", nameof(inputs));
        if (kind == FisherKind.Empirical && (labels is null || labels.dtype != ScalarType.Int64 || labels.dim() != 1 || labels.shape[0] != inputs.shape[0]))
            throw new ArgumentException($"The empirical Fisher information needs a class, int64, for each of the {inputs.shape[0]} samples.", nameof(labels));
        var parameters = model.named_parameters().Where(p => include?.Invoke(p.name) ?? true).ToDictionary(p => p.name, p => p.parameter);
        if (parameters.Count == 0) throw new ArgumentException("No parameter is included.", nameof(include));

        using var scope = NewDisposeScope();
        var fisher = parameters.ToDictionary(p => p.Key, p => zeros_like(p.Value, requires_grad: false));
        bool training = model.training;
        bool[] required = [.. parameters.Values.Select(p => p.requires_grad)];
        foreach (Parameter parameter in parameters.Values) parameter.requires_grad = true;
        model.eval();
        List<TrackedLayer> layers = [.. model.named_modules().Append(("", model)).Select(m => TrackedLayer.Of(m.Item1, m.Item2, parameters)).OfType<TrackedLayer>()];
        try
        {
            for (long start = 0; start < inputs.shape[0]; start += batchSize)
            {
                using var batch = NewDisposeScope();
                long count = Math.Min(batchSize, inputs.shape[0] - start);
                Tensor x = inputs.narrow(0, start, count);
                Tensor? y = labels?.narrow(0, start, count);
                foreach (TrackedLayer layer in layers) layer.Calls.Clear();
                Tensor[] terms = Terms(logits(x), y, kind);
                TrackedLayer[] once = [.. layers.Where(l => l.Calls.Count == 1)];
                Tensor[] probes = [.. once.Select(l => l.Calls[0].Probe)];
                for (int c = 0; c < terms.Length && probes.Length > 0; c++)
                {
                    using var term = NewDisposeScope();
                    IList<Tensor> deltas = autograd.grad([terms[c]], probes, retain_graph: c < terms.Length - 1, allow_unused: true);
                    for (int l = 0; l < once.Length; l++)
                        if (deltas[l] is { IsInvalid: false } delta) once[l].Add(fisher, delta.detach());
                }
                string[] rest = [.. parameters.Keys.Except(layers.Where(l => l.Calls.Count <= 1).SelectMany(l => l.Names))];
                if (rest.Length > 0) AddOneByOne(fisher, [.. rest.Select(n => parameters[n])], rest, logits, x, y, kind);
            }
        }
        finally
        {
            foreach (TrackedLayer layer in layers) layer.Dispose();
            model.train(training);
            foreach ((Parameter parameter, bool flag) in parameters.Values.Zip(required)) parameter.requires_grad = flag;
        }
        foreach (Tensor total in fisher.Values) total.div_(inputs.shape[0]).MoveToOuterDisposeScope();
        return fisher;
    }

    // One scalar a label that is expected: its gradient for a sample is sqrt(weight) * d log p(y | x), so that squares carry the weight.
    private static Tensor[] Terms(Tensor logits, Tensor? labels, FisherKind kind)
    {
        if (logits.dim() != 2 || !logits.requires_grad) throw new ArgumentException($"Logits must be [batch, classes] and depend on parameters; got [{string.Join(", ", logits.shape)}].", nameof(logits));
        Tensor logProbabilities = logits.log_softmax(1);
        if (kind == FisherKind.True)
        {
            Tensor weighted = logProbabilities * logProbabilities.detach().mul(0.5).exp();
            return [.. Enumerable.Range(0, (int)logits.shape[1]).Select(c => weighted.select(1, c).sum())];
        }
        if (labels!.min().ToInt64() < 0 || labels.max().ToInt64() >= logits.shape[1]) throw new ArgumentException($"A label is outside 0..{logits.shape[1] - 1}, the classes of the logits.", nameof(labels));
        return [logProbabilities.gather(1, labels.unsqueeze(1)).sum()];
    }

    private static void AddOneByOne(Dictionary<string, Tensor> fisher, Parameter[] parameters, string[] names, Func<Tensor, Tensor> logits, Tensor x, Tensor? y, FisherKind kind)
    {
        for (long i = 0; i < x.shape[0]; i++)
        {
            using var sample = NewDisposeScope();
            Tensor[] terms = Terms(logits(x.narrow(0, i, 1)), y?.narrow(0, i, 1), kind);
            for (int c = 0; c < terms.Length; c++)
            {
                IList<Tensor> gradients = autograd.grad([terms[c]], parameters, retain_graph: c < terms.Length - 1, allow_unused: true);
                for (int p = 0; p < parameters.Length; p++)
                    if (gradients[p] is { IsInvalid: false } gradient) fisher[names[p]].addcmul_(gradient, gradient, 1);
            }
        }
    }

    /// <summary>A layer whose per-sample gradients follow from its input and the derivative at its output. A zero that is added to the output (the probe) receives that derivative.</summary>
    private sealed class TrackedLayer : IDisposable
    {
        private readonly Module<Tensor, Tensor> _layer;
        private readonly string? _weight, _bias;
        private readonly Action _remove;

        private TrackedLayer(string name, Module<Tensor, Tensor> layer, Dictionary<string, Parameter> parameters)
        {
            _layer = layer;
            string prefix = name.Length == 0 ? "" : name + ".";
            _weight = parameters.ContainsKey(prefix + "weight") ? prefix + "weight" : null;
            _bias = parameters.ContainsKey(prefix + "bias") ? prefix + "bias" : null;
            _remove = layer.register_forward_hook((_, input, output) =>
            {
                Tensor probe = zeros_like(output, requires_grad: true);
                Calls.Add((input.detach(), probe));
                return output + probe;
            }).remove;
        }

        public List<(Tensor Input, Tensor Probe)> Calls { get; } = [];

        public IEnumerable<string> Names => new[] { _weight, _bias }.OfType<string>();

        public static TrackedLayer? Of(string name, Module module, Dictionary<string, Parameter> parameters)
        {
            if (module is not (Modules.Linear or Modules.Conv2d { padding_mode: PaddingModes.Zeros, padding: not null } or Modules.LayerNorm or Modules.BatchNorm1d { running_mean: not null } or Modules.BatchNorm2d { running_mean: not null })) return null;
            var layer = new TrackedLayer(name, (Module<Tensor, Tensor>)module, parameters);
            if (layer.Names.Any()) return layer;
            layer.Dispose();
            return null;
        }

        public void Dispose() => _remove();

        public void Add(Dictionary<string, Tensor> fisher, Tensor delta)
        {
            using var ungraphed = no_grad();
            Tensor input = Calls[0].Input;
            switch (_layer)
            {
                case Modules.Linear when input.dim() == 2:
                    if (_weight is not null) fisher[_weight].addmm_(delta.square().t(), input.square());
                    if (_bias is not null) fisher[_bias].add_(delta.square().sum(dim: 0));
                    break;
                case Modules.Linear:
                    AddOuter(fisher, delta.flatten(1, -2).transpose(1, 2), input.flatten(1, -2));
                    break;
                case Modules.Conv2d conv:
                    long groups = conv.groups;
                    Tensor columns = functional.unfold(input, (conv.kernel_size[0], conv.kernel_size[1]), (conv.dilation[0], conv.dilation[1]), (conv.padding![0], conv.padding[1]), (conv.stride[0], conv.stride[1]));
                    AddOuter(fisher, delta.flatten(2), columns.transpose(1, 2), groups);
                    break;
                case Modules.LayerNorm norm:
                    AddScale(fisher, delta, functional.layer_norm(input, norm.normalized_shape, eps: norm.eps), channel: -1, norm.normalized_shape.Length);
                    break;
                case Modules.BatchNorm1d norm:
                    AddScale(fisher, delta, functional.batch_norm(input, norm.running_mean!, norm.running_var!, eps: norm.eps), channel: 1, 1);
                    break;
                case Modules.BatchNorm2d norm:
                    AddScale(fisher, delta, functional.batch_norm(input, norm.running_mean!, norm.running_var!, eps: norm.eps), channel: 1, 1);
                    break;
            }
        }

        // delta [batch, outputs, positions], input [batch, positions, inputs]: the gradient of a sample is their product.
        private void AddOuter(Dictionary<string, Tensor> fisher, Tensor delta, Tensor input, long groups = 1)
        {
            if (_bias is not null) fisher[_bias].add_(delta.sum(dim: 2).square().sum(dim: 0));
            if (_weight is null) return;
            Tensor total = fisher[_weight];
            long perSample = total.numel(), chunk = Math.Max(1, LargestOuterProducts / perSample), outputs = delta.shape[1] / groups, inputs = input.shape[2] / groups;
            for (long start = 0; start < delta.shape[0]; start += chunk)
            {
                using var part = NewDisposeScope();
                long count = Math.Min(chunk, delta.shape[0] - start);
                Tensor d = delta.narrow(0, start, count), a = input.narrow(0, start, count);
                for (long g = 0; g < groups; g++)
                {
                    Tensor gradient = d.narrow(1, g * outputs, outputs).matmul(a.narrow(2, g * inputs, inputs));
                    total.view(groups, outputs, inputs)[g].add_(gradient.mul_(gradient).sum(dim: 0));
                }
            }
        }

        // The gradients of scale and shift are sums over positions of delta * normalised input and of delta.
        private void AddScale(Dictionary<string, Tensor> fisher, Tensor delta, Tensor normalised, int channel, int axes)
        {
            Tensor PerSample(Tensor t) => channel == 1
                ? (t.dim() == 2 ? t : t.flatten(2).sum(dim: 2))
                : (t.dim() == axes + 1 ? t : t.flatten(1, (int)t.dim() - axes - 1).sum(dim: 1));
            if (_weight is not null) fisher[_weight].add_(PerSample(delta * normalised).square().sum(dim: 0));
            if (_bias is not null) fisher[_bias].add_(PerSample(delta).square().sum(dim: 0));
        }
    }
}
