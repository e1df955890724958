using Priori.Training;
using Parameter = TorchSharp.Modules.Parameter;

namespace Priori.Continual;

/// <summary>Where the parameters are pulled to.</summary>
public enum AnchorMode
{
    /// <summary>Their values after the previous task (before the first one: the pre-trained ones).</summary>
    Previous,

    /// <summary>Always the first anchor: the pre-trained values or, without pre-training, those after the first task. Head rows keep the values at which they were first anchored.</summary>
    Pretrained,
}

/// <summary>A quadratic pull of parameters to anchors: sum of importance * (parameter - anchor)^2.</summary>
public abstract class AnchoredPenalty : ContinualPenalty
{
    private readonly TensorStore _store = new();
    private (Parameter Parameter, Tensor Anchor, Tensor? Root)[] _bound = [];

    private protected AnchoredPenalty(double weight, ParameterSelector? selector, AnchorMode anchor) : base(weight)
    {
        Selector = selector ?? ParameterSelector.Backbone;
        Anchor = anchor;
    }

    /// <summary>Which parameters are pulled.</summary>
    public ParameterSelector Selector { get; }

    /// <summary>Where to.</summary>
    public AnchorMode Anchor { get; }

    /// <inheritdoc/>
    public override Module? State => _store;

    private protected TensorStore Store => _store;

    /// <summary>sum_i importance_i (parameter_i - anchor_i)^2: L2 without importances, elastic weight consolidation with the Fisher information.</summary>
    /// <param name="parameter">A parameter of any shape.</param>
    /// <param name="anchor">Its anchor.</param>
    /// <param name="importance">Importances of the same shape, at least 0; 1 when null.</param>
    /// <returns>A scalar.</returns>
    public static Tensor Quadratic(Tensor parameter, Tensor anchor, Tensor? importance = null)
    {
        ArgumentNullException.ThrowIfNull(parameter);
        ArgumentNullException.ThrowIfNull(anchor);
        if (!parameter.shape.AsSpan().SequenceEqual(anchor.shape) || (importance is not null && !importance.shape.AsSpan().SequenceEqual(anchor.shape)))
            throw new ArgumentException($"Parameter, anchor and importance must be of one shape; the parameter is [{string.Join(", ", parameter.shape)}] and the anchor [{string.Join(", ", anchor.shape)}].", nameof(anchor));
        if (importance is null) return Scaled(parameter, anchor, null);
        Tensor root = importance.sqrt();
        return Scaled(parameter, root * anchor, root);
    }

    /// <inheritdoc/>
    public override bool Begin(ContinualModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        foreach ((_, Tensor anchor, Tensor? root) in _bound.Where(b => b.Root is not null))
        {
            anchor.Dispose();
            root!.Dispose();
        }
        var parameters = model.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        using var ungraphed = no_grad();
        _bound = [.. Terms().Select(t => t.Importance?.sqrt().DetachFromDisposeScope() is { } root
            ? (parameters[t.Name], (root * t.Anchor).DetachFromDisposeScope(), root)
            : (parameters[t.Name], t.Anchor, (Tensor?)null))];
        return _bound.Length > 0;
    }

    /// <inheritdoc/>
    public override Tensor Loss(PenaltyContext context)
    {
        Tensor total = Scaled(_bound[0].Parameter, _bound[0].Anchor, _bound[0].Root);
        for (int i = 1; i < _bound.Length; i++) total = total + Scaled(_bound[i].Parameter, _bound[i].Anchor, _bound[i].Root);
        return total;
    }

    /// <summary>What is pulled where: the name of a parameter, its anchor, its importance (1 when null).</summary>
    private protected abstract IEnumerable<(string Name, Tensor Anchor, Tensor? Importance)> Terms();

    // |r p - r a|^2 with r = sqrt(importance) and r a kept: two passes over the parameter and two back.
    private static Tensor Scaled(Tensor parameter, Tensor anchor, Tensor? root)
        => functional.mse_loss(root is null ? parameter : parameter * root, anchor, Reduction.Sum);

    /// <summary>Named tensors that a checkpoint carries.</summary>
    private protected sealed class TensorStore() : Module(nameof(TensorStore))
    {
        private readonly Dictionary<string, Tensor> _tensors = [];

        public IEnumerable<string> Names => _tensors.Keys;

        public Tensor? this[string name] => _tensors.GetValueOrDefault(name);

        public void Set(string name, Tensor value)
        {
            using var ungraphed = no_grad();
            if (_tensors.TryGetValue(name, out Tensor? kept))
            {
                kept.copy_(value);
                return;
            }
            _tensors[name] = kept = value.detach().clone().DetachFromDisposeScope();
            register_buffer(name.Replace('.', '/'), kept); // a buffer's name has no dots
        }
    }
}

/// <summary>L2: sum of (theta - anchor)^2 over the chosen parameters, elastic weight consolidation with all importances 1. Set the optimizer's weight decay to 0: it pulls to zero.</summary>
public sealed class L2Anchor : AnchoredPenalty
{
    /// <summary>A pull to anchors.</summary>
    /// <param name="weight">lambda_r.</param>
    /// <param name="selector">Which parameters; the backbone when null.</param>
    /// <param name="anchor">Where to.</param>
    public L2Anchor(double weight, ParameterSelector? selector = null, AnchorMode anchor = AnchorMode.Previous) : base(weight, selector, anchor)
    {
    }

    /// <inheritdoc/>
    public override void OnPretrained(ContinualModel model) => Snapshot(model);

    /// <inheritdoc/>
    public override void OnTaskEnd(LearnedTask task)
    {
        ArgumentNullException.ThrowIfNull(task);
        Snapshot(task.Model);
    }

    private protected override IEnumerable<(string Name, Tensor Anchor, Tensor? Importance)> Terms() => Store.Names.Select(n => (n, Store[n]!, (Tensor?)null));

    private void Snapshot(ContinualModel model)
    {
        foreach ((string name, Parameter parameter) in Selector.Select(model))
            if (Anchor == AnchorMode.Previous || Store[name] is null) Store.Set(name, parameter);
    }
}

/// <summary>How <see cref="ElasticWeightConsolidation"/> remembers several tasks.</summary>
public enum EwcMemory
{
    /// <summary>One importance, F &lt;- gamma F_old + (1 - gamma) F_new, with one anchor (Schwarz et al., ICML 2018, with the average kept).</summary>
    Online,

    /// <summary>An importance and an anchor for each task (Kirkpatrick et al., PNAS 2017).</summary>
    Separate,
}

/// <summary>EWC: sum of F (theta - anchor)^2 with F the diagonal Fisher information (<see cref="DiagonalFisher"/>) of what was learned before.</summary>
public sealed class ElasticWeightConsolidation : AnchoredPenalty
{
    private readonly FisherKind _kind;
    private readonly EwcMemory _memory;
    private readonly double _gamma;
    private readonly bool _half;
    private readonly int? _samples;
    private readonly IReadOnlyDictionary<string, Tensor>? _pretrained;
    private int _tasks;

    /// <summary>Elastic weight consolidation.</summary>
    /// <param name="weight">lambda.</param>
    /// <param name="selector">Which parameters; the backbone when null.</param>
    /// <param name="kind">Fisher information of the labels or of the model's own predictions.</param>
    /// <param name="memory">One running importance, or one a task.</param>
    /// <param name="gamma">Share of the old importance in the running one, in [0, 1]; 0.5.</param>
    /// <param name="anchor">Where to pull; with <see cref="EwcMemory.Separate"/> each task's own values unless <see cref="AnchorMode.Pretrained"/>.</param>
    /// <param name="half">Whether the penalty is F/2 (theta - anchor)^2 as in Kirkpatrick et al.; otherwise the 1/2 is in lambda.</param>
    /// <param name="samples">Samples of each task that the Fisher information is estimated from, drawn at random; all when null.</param>
    /// <param name="pretrainedFisher">Fisher information of the pre-training, by parameter (<c>backbone.*</c>). With it a pre-trained backbone is protected from the first task on; without, from the second.</param>
    public ElasticWeightConsolidation(double weight, ParameterSelector? selector = null, FisherKind kind = FisherKind.Empirical, EwcMemory memory = EwcMemory.Online, double gamma = 0.5,
        AnchorMode anchor = AnchorMode.Previous, bool half = false, int? samples = null, IReadOnlyDictionary<string, Tensor>? pretrainedFisher = null) : base(weight, selector, anchor)
    {
        if (gamma is not (>= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(gamma), gamma, "The share of the old importance must be in [0, 1].");
        if (samples is < 1) throw new ArgumentOutOfRangeException(nameof(samples), samples, "The Fisher information needs at least one sample.");
        (_kind, _memory, _gamma, _half, _samples, _pretrained) = (kind, memory, gamma, half, samples, pretrainedFisher);
    }

    /// <inheritdoc/>
    public override void OnPretrained(ContinualModel model)
    {
        if (_pretrained is null) return;
        Remember(Selector.Select(model), _pretrained);
    }

    /// <inheritdoc/>
    public override Tensor Loss(PenaltyContext context) => _half ? base.Loss(context) / 2 : base.Loss(context);

    /// <inheritdoc/>
    public override void OnTaskEnd(LearnedTask task)
    {
        ArgumentNullException.ThrowIfNull(task);
        using var scope = NewDisposeScope();
        (Tensor inputs, Tensor targets) = (task.Inputs, task.Targets);
        if (_samples is { } count && count < inputs.shape[0])
        {
            Runtime.Seeds.Set(Runtime.Seeds.Derive(task.Seed, 0x45574331));
            Tensor rows = randperm(inputs.shape[0], ScalarType.Int64).narrow(0, 0, count).to(inputs.device);
            (inputs, targets) = (inputs.index_select(0, rows), targets.index_select(0, rows));
        }
        // The likelihood is the one that was trained: among the task's classes for a local loss.
        Tensor own = task.LikelihoodRows;
        Tensor local = targets.unsqueeze(1).eq(own).to(ScalarType.Int64).argmax(1);
        var selected = Selector.Select(task.Model);
        HashSet<string> names = [.. selected.Select(p => p.Name)];
        Remember(selected, DiagonalFisher.Estimate(task.Model, x => task.Model.call(x).index_select(1, own), inputs.to(own.device), local.to(own.device), _kind, include: names.Contains));
    }

    private protected override IEnumerable<(string Name, Tensor Anchor, Tensor? Importance)> Terms()
        => Store.Names.Where(n => n.EndsWith("/fisher", StringComparison.Ordinal)).Select(n =>
        {
            string key = n[..^"/fisher".Length];
            return (key[(key.IndexOf('/') + 1)..], Store[key + "/anchor"]!, Store[n]);
        });

    private void Remember(IReadOnlyList<(string Name, Parameter Parameter)> selected, IReadOnlyDictionary<string, Tensor> fisher)
    {
        using var scope = NewDisposeScope();
        int memory = _memory == EwcMemory.Online ? 0 : _tasks;
        _tasks++;
        foreach ((string name, Parameter parameter) in selected)
        {
            if (!fisher.TryGetValue(name, out Tensor? now)) throw new ArgumentException($"The Fisher information lacks parameter '{name}'.", nameof(fisher));
            string key = $"{memory}/{name}";
            Store.Set(key + "/fisher", Store[key + "/fisher"] is { } old ? old.mul(_gamma).add_(now.mul(1 - _gamma)) : now);
            if (Anchor == AnchorMode.Pretrained) Store.Set(key + "/anchor", Store[$"0/{name}/anchor"] ?? parameter);
            else Store.Set(key + "/anchor", parameter);
        }
    }
}
