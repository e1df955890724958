namespace Priori.Training;

/// <summary>Which samples of a batch each of two models learns from. l^A, l^B are the per-sample losses of the models on the same batch, before either is updated.</summary>
public enum CoTeachingMode
{
    /// <summary>All samples: both models are trained side by side, without selection.</summary>
    Joint,

    /// <summary>Each model learns from its own small-loss samples (self-paced learning).</summary>
    SelfPaced,

    /// <summary>Each model learns from the other's small-loss samples (co-teaching: Han et al., NeurIPS 2018, algorithm 1).</summary>
    Filter,

    /// <summary>Each model weights its samples by the other's loss, w = max(0, 1 - beta l) (MV-CoN: Bian et al., CIKM 2020).</summary>
    Reweight,

    /// <summary>Both models learn from the samples on which their predictions differ (Malach, Shalev-Shwartz, NeurIPS 2017).</summary>
    Decoupled,
}

/// <summary>Settings of co-teaching.</summary>
public sealed record CoTeachingOptions
{
    /// <summary>Which samples each model learns from; default <see cref="CoTeachingMode.Filter"/>.</summary>
    public CoTeachingMode Mode { get; init; } = CoTeachingMode.Filter;

    /// <summary>Share of samples that <see cref="CoTeachingMode.Filter"/> and <see cref="CoTeachingMode.SelfPaced"/> discard in the end, in [0, 1); the expected share of wrong labels. Default 0.3.</summary>
    public double NoiseRate { get; init; } = 0.3;

    /// <summary>Epochs T_k over which the discarded share grows from 0, at least 1: models learn clean labels first. Default 6.</summary>
    public int WarmupEpochs { get; init; } = 6;

    /// <summary>beta of <see cref="CoTeachingMode.Reweight"/>, at least 0. Default 0.2, as in MV-CoN's public code.</summary>
    public double Beta { get; init; } = 0.2;

    /// <summary>Whether small losses are selected within each class, so that a rare class is not discarded as a whole. Default false.</summary>
    public bool PerClass { get; init; }

    /// <summary>Whether <see cref="CoTeachingMode.Reweight"/> also weights samples of classes above 0. By default only class 0 (sampled non-interactions, the noisier half) is.</summary>
    public bool ApplyToPositives { get; init; }

    /// <summary>Checks the ranges.</summary>
    /// <exception cref="ArgumentException">A setting is outside its range.</exception>
    public void Validate()
    {
        if (!(NoiseRate >= 0 && NoiseRate < 1)) throw new ArgumentException($"The noise rate must be in [0, 1); it was {NoiseRate}.", nameof(NoiseRate));
        if (WarmupEpochs < 1) throw new ArgumentException($"The warm-up must last at least one epoch; it was {WarmupEpochs}.", nameof(WarmupEpochs));
        if (!(Beta >= 0 && double.IsFinite(Beta))) throw new ArgumentException($"beta must be at least 0; it was {Beta}.", nameof(Beta));
    }
}

/// <summary>What a model says about a batch.</summary>
/// <param name="Losses">Loss of each sample, not reduced, [batch], with its graph.</param>
/// <param name="Predictions">Predicted class of each sample, int64 [batch]; only <see cref="CoTeachingMode.Decoupled"/> needs it.</param>
public sealed record SampleLosses(Tensor Losses, Tensor? Predictions = null);

/// <summary>The parts of co-teaching: schedule, selection, weights.</summary>
public static class CoTeaching
{
    /// <summary>Share of samples discarded in an epoch: rate * min(epoch / T_k, 1), so nothing in the first epoch and the full rate from epoch T_k on.</summary>
    /// <param name="epoch">Epochs done before this one: the first epoch is 0.</param>
    /// <param name="noiseRate">The rate in the end, in [0, 1).</param>
    /// <param name="warmupEpochs">T_k, at least 1.</param>
    public static double DiscardedShare(int epoch, double noiseRate, int warmupEpochs)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        ArgumentOutOfRangeException.ThrowIfLessThan(warmupEpochs, 1);
        return noiseRate * Math.Min((double)epoch / warmupEpochs, 1);
    }

    /// <summary>The floor(share * n) samples with the smallest losses, smallest first; equal losses keep their order. At least one.</summary>
    /// <param name="losses">Losses [n].</param>
    /// <param name="keptShare">Share to keep, in (0, 1].</param>
    /// <param name="classes">Class of each sample, int64 [n]: the share is then kept of each class. Null ignores classes.</param>
    /// <returns>Positions, int64.</returns>
    /// <exception cref="ArgumentException">Shapes do not fit or the share is outside its range.</exception>
    public static Tensor SmallLosses(Tensor losses, double keptShare, Tensor? classes = null)
    {
        ArgumentNullException.ThrowIfNull(losses);
        if (losses.dim() != 1 || losses.shape[0] == 0) throw new ArgumentException($"Losses must be [n], n at least 1; got [{string.Join(",", losses.shape)}].", nameof(losses));
        if (!(keptShare > 0 && keptShare <= 1)) throw new ArgumentException($"The kept share must be in (0, 1]; it was {keptShare}.", nameof(keptShare));
        if (classes is not null && !classes.shape.SequenceEqual(losses.shape)) throw new ArgumentException($"Classes must be as many as losses; got [{string.Join(",", classes.shape)}] and [{string.Join(",", losses.shape)}].", nameof(classes));
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Tensor order = losses.detach().sort(dim: 0, descending: false, stable: true).Indices;
        if (classes is null) return order.narrow(0, 0, Kept(losses.shape[0])).MoveToOuterDisposeScope();
        Tensor sorted = classes.index_select(0, order);
        Tensor[] ofClass = [.. sorted.unique().output.cpu().data<long>().ToArray().Select(c => order.masked_select(sorted.eq(c)))];
        return cat([.. ofClass.Select(o => o.narrow(0, 0, Kept(o.shape[0])))]).MoveToOuterDisposeScope();

        long Kept(long n) => Math.Max(1, (long)Math.Floor(keptShare * n + 1e-9));
    }

    /// <summary>Weights max(0, 1 - beta * loss), without a graph; 1 for samples above class 0 unless asked otherwise.</summary>
    /// <param name="losses">Losses [n].</param>
    /// <param name="classes">Class of each sample, int64 [n]; null weights all samples.</param>
    /// <param name="beta">beta, at least 0.</param>
    /// <param name="applyToPositives">Whether samples above class 0 are weighted too.</param>
    public static Tensor Weights(Tensor losses, Tensor? classes, double beta, bool applyToPositives = false)
    {
        ArgumentNullException.ThrowIfNull(losses);
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Tensor weights = (1 - beta * losses.detach()).clamp_min(0);
        if (classes is not null && !applyToPositives) weights = weights.masked_fill(classes.gt(0), 1);
        return weights.MoveToOuterDisposeScope();
    }
}

/// <summary>
/// What co-teaching saw of each training row, in buffers so that checkpoints carry it: losses under both models, and the weight that each model gave the row (1 or 0 where rows are selected).
/// Rows with a large mean loss that were seldom kept are probably mislabelled.
/// </summary>
public sealed class NoiseReport : Module
{
    private readonly Tensor sums, visits, last;

    /// <summary>Makes an empty report.</summary>
    /// <param name="rows">Training rows n, at least 1.</param>
    public NoiseReport(long rows) : base(nameof(NoiseReport))
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        sums = zeros(rows, 4);
        visits = zeros(rows);
        last = zeros(rows, 4);
        RegisterComponents();
    }

    /// <summary>How often each row was visited, [n].</summary>
    public Tensor Visits => visits;

    /// <summary>Mean loss of each row under models A and B, over all visits, [n, 2]; 0 for rows never visited.</summary>
    public Tensor MeanLosses => Mean(0);

    /// <summary>Mean weight of each row by the choice of models A and B, [n, 2]: the share of visits in which it was kept.</summary>
    public Tensor KeptShares => Mean(2);

    /// <summary>Losses of each row at its last visit, [n, 2].</summary>
    public Tensor LastLosses => last.narrow(1, 0, 2);

    /// <summary>Weight of each row at its last visit by the choice of models A and B, [n, 2].</summary>
    public Tensor LastWeights => last.narrow(1, 2, 2);

    /// <summary>Suspicion of each row, [n]: its mean loss over visits and both models. Larger is more suspect.</summary>
    public Tensor Suspicion
    {
        get
        {
            using var scope = NewDisposeScope();
            return MeanLosses.mean([1]).MoveToOuterDisposeScope();
        }
    }

    internal void Add(Tensor rows, Tensor lossesA, Tensor lossesB, Tensor weightsByA, Tensor weightsByB)
    {
        using var gradientsOff = no_grad();
        using var scope = NewDisposeScope();
        Tensor values = stack([lossesA, lossesB, weightsByA, weightsByB], 1).to(last.dtype);
        sums.index_add_(0, rows, values, 1);
        visits.index_add_(0, rows, ones_like(rows, last.dtype), 1);
        last.index_copy_(0, rows, values);
    }

    private Tensor Mean(long column)
    {
        using var scope = NewDisposeScope();
        return (sums.narrow(1, column, 2) / visits.clamp_min(1).unsqueeze(1)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Co-teaching of any two models (Han et al., NeurIPS 2018; between two views: MV-CoN, Bian et al., CIKM 2020): both see the same batch, and each says through its per-sample losses which samples
/// the other learns from. Everything is selected before either model is updated, and no gradient flows through a selection or weight.
/// Each model has an optimizer of its own, "a" and "b". A parameter that both models use belongs in one of the two optimizers.
/// </summary>
public class CoTeachingLearner : Learner
{
    private readonly Func<Batch, (SampleLosses A, SampleLosses B)> _losses;
    private readonly Func<Batch, Tensor>? _classes;
    private readonly CoTeachingOptions _options;

    /// <summary>Makes a learner; it owns the models and optimizers.</summary>
    /// <param name="modelA">Model A.</param>
    /// <param name="modelB">Model B; it must have parameters of its own.</param>
    /// <param name="losses">Per-sample losses of both models on a batch, in training mode, each [batch].</param>
    /// <param name="optimizationA">Optimizer of A.</param>
    /// <param name="optimizationB">Optimizer of B.</param>
    /// <param name="rows">Training rows, for <see cref="Report"/>; row ids of batches are below it.</param>
    /// <param name="options">Settings; the defaults when null.</param>
    /// <param name="classes">Given class of each sample of a batch, int64 [batch]; needed by <see cref="CoTeachingOptions.PerClass"/> and to tell positives in <see cref="CoTeachingMode.Reweight"/>.</param>
    /// <exception cref="ArgumentException">A setting is outside its range, the models share all parameters, or classes are needed and missing.</exception>
    public CoTeachingLearner(
        Module modelA, Module modelB, Func<Batch, (SampleLosses A, SampleLosses B)> losses, Optimization optimizationA, Optimization optimizationB, long rows,
        CoTeachingOptions? options = null, Func<Batch, Tensor>? classes = null)
    {
        ArgumentNullException.ThrowIfNull(modelA);
        ArgumentNullException.ThrowIfNull(modelB);
        ArgumentNullException.ThrowIfNull(losses);
        ArgumentNullException.ThrowIfNull(optimizationA);
        ArgumentNullException.ThrowIfNull(optimizationB);
        _options = options ?? new CoTeachingOptions();
        _options.Validate();
        var ofA = modelA.parameters().Select(p => p.Handle).ToHashSet();
        var ofB = modelB.parameters().Select(p => p.Handle).ToHashSet();
        if (ofA.IsSubsetOf(ofB) || ofB.IsSubsetOf(ofA)) throw new ArgumentException("The two models share all parameters of one of them; co-teaching needs models that err differently.", nameof(modelB));
        if (_options.PerClass && classes is null) throw new ArgumentException("Selection within classes needs the classes of a batch.", nameof(classes));
        if (_options.Mode == CoTeachingMode.Reweight && !_options.ApplyToPositives && classes is null) throw new ArgumentException("Re-weighting of class 0 alone needs the classes of a batch.", nameof(classes));
        (_losses, _classes) = (losses, classes);
        Report = new NoiseReport(rows);
        Report.to(modelA.parameters().First().device);
        Modules = new Dictionary<string, Module> { ["a"] = modelA, ["b"] = modelB, ["report"] = Report };
        Optimizers = new Dictionary<string, Optimization> { ["a"] = optimizationA, ["b"] = optimizationB };
    }

    /// <summary>What was seen of each training row.</summary>
    public NoiseReport Report { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Module> Modules { get; }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; }

    /// <inheritdoc/>
    public override void Step(Batch batch, TrainingStep step)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(step);
        Modules["a"].train();
        Modules["b"].train();
        var (a, b) = _losses(batch);
        if (a.Losses.dim() != 1 || !a.Losses.shape.SequenceEqual(b.Losses.shape) || a.Losses.shape[0] != batch.Rows.shape[0])
            throw new ArgumentException($"Both models must give one loss a sample; got [{string.Join(",", a.Losses.shape)}] and [{string.Join(",", b.Losses.shape)}] for {batch.Rows.shape[0]} samples.");
        Tensor? classes = _classes?.Invoke(batch);
        Tensor byA = Choice(a, b, classes, step.Epoch), byB = Choice(b, a, classes, step.Epoch);
        Report.Add(batch.Rows, a.Losses.detach(), b.Losses.detach(), byA, byB);
        bool own = _options.Mode == CoTeachingMode.SelfPaced;
        Tensor weightsA = own ? byA : byB, weightsB = own ? byB : byA;
        if (_options.Mode == CoTeachingMode.Decoupled && weightsA.sum().ToDouble() == 0) return; // the models agree on the whole batch
        step.Minimize(("a", Mean(a.Losses, weightsA)), ("b", Mean(b.Losses, weightsB)));
    }

    /// <summary>The weight that a model gives each sample by its own losses, [batch], without a graph.</summary>
    private Tensor Choice(SampleLosses own, SampleLosses other, Tensor? classes, int epoch)
    {
        Tensor losses = own.Losses.detach();
        switch (_options.Mode)
        {
            case CoTeachingMode.Reweight:
                return CoTeaching.Weights(losses, classes, _options.Beta, _options.ApplyToPositives);
            case CoTeachingMode.Decoupled:
                if (own.Predictions is null || other.Predictions is null) throw new ArgumentException("Decoupled co-teaching needs the models' predictions.");
                return own.Predictions.ne(other.Predictions).to(losses.dtype);
            case CoTeachingMode.Filter or CoTeachingMode.SelfPaced:
                Tensor kept = CoTeaching.SmallLosses(losses, 1 - CoTeaching.DiscardedShare(epoch, _options.NoiseRate, _options.WarmupEpochs), _options.PerClass ? classes : null);
                return zeros_like(losses).index_fill_(0, kept, 1);
            default:
                return ones_like(losses);
        }
    }

    /// <summary>Mean over the selected samples; with weights, over all samples (mean w l).</summary>
    private Tensor Mean(Tensor losses, Tensor weights)
        => _options.Mode == CoTeachingMode.Reweight ? (weights * losses).mean() : (weights * losses).sum() / weights.sum();
}
