namespace Priori.Interpretability;

/// <summary>One octave of activation maximisation: a number of steps at one size of the canvas. Pixels are in 0..1.</summary>
/// <param name="Iterations">Steps n, at least 1.</param>
public sealed record Octave(int Iterations)
{
    /// <summary>Mean change of a pixel by the first step's gradient, above 0.</summary>
    public required double StepStart { get; init; }

    /// <summary>The same for the last step; steps between are linear, start + (end - start) i / n.</summary>
    public required double StepEnd { get; init; }

    /// <summary>Weight of the fidelity in the first step's total-variation denoising, above 0: a small weight smooths strongly, positive infinity leaves it out.</summary>
    public double WeightStart { get; init; } = double.PositiveInfinity;

    /// <summary>The same for the last step; linear between.</summary>
    public double WeightEnd { get; init; } = double.PositiveInfinity;

    /// <summary>Standard deviation of the crop's offset as a fraction of the slack, at least 0; small windows stay near the centre. Default 0.3.</summary>
    public double Window { get; init; } = 0.3;

    /// <summary>Width in pixels of the border of the crop that keeps its gradient out, at least 0 and below half the input. Default 0.</summary>
    public int Margin { get; init; }

    /// <summary>Factor by which the canvas grows before the octave, at least 1. Default 1.</summary>
    public double Scale { get; init; } = 1;

    /// <summary>What of the unit is made large; the unit's own objective when null.</summary>
    public UnitObjective? Objective { get; init; }

    internal double Step(int i) => StepStart + (StepEnd - StepStart) * i / Iterations;

    internal double Weight(int i) => double.IsInfinity(WeightStart) || double.IsInfinity(WeightEnd) ? double.PositiveInfinity : WeightStart + (WeightEnd - WeightStart) * i / Iterations;
}

/// <summary>
/// The octaves of a visualisation, in order. The numbers of the two published schedules are those of the authors' scripts for 224 x 224 inputs with pixels in 0..255:
/// steps are divided by 255, weights multiplied by 255 (which leaves the minimiser of the denoising the same), and margins scale with the input.
/// </summary>
public sealed class OctaveSchedule
{
    private const double Levels = 255;
    private const double PublishedSize = 224;

    private OctaveSchedule(IReadOnlyList<Octave> octaves) => Octaves = octaves;

    /// <summary>The octaves.</summary>
    public IReadOnlyList<Octave> Octaves { get; }

    /// <summary>Steps of all octaves together.</summary>
    public int Iterations => Octaves.Sum(o => o.Iterations);

    /// <summary>Octaves of one's own.</summary>
    /// <param name="octaves">At least one.</param>
    /// <exception cref="ArgumentException">There is none, or one has a number outside its range.</exception>
    public static OctaveSchedule Custom(params IReadOnlyList<Octave> octaves)
    {
        ArgumentNullException.ThrowIfNull(octaves);
        if (octaves.Count == 0) throw new ArgumentException("A schedule needs at least one octave.", nameof(octaves));
        for (int i = 0; i < octaves.Count; i++)
        {
            Octave o = octaves[i];
            void Require(bool holds, string what)
            {
                if (!holds) throw new ArgumentException($"Octave {i + 1}: {what}.", nameof(octaves));
            }
            Require(o.Iterations >= 1, $"{o.Iterations} iterations, at least 1 are needed");
            Require(double.IsFinite(o.StepStart) && double.IsFinite(o.StepEnd) && o.StepStart > 0 && o.StepEnd > 0, $"steps from {o.StepStart} to {o.StepEnd}; they must be above 0");
            Require(o.WeightStart > 0 && o.WeightEnd > 0, $"weights from {o.WeightStart} to {o.WeightEnd}; they must be above 0");
            Require(o.Window >= 0 && double.IsFinite(o.Window), $"the window is {o.Window}; it must be at least 0");
            Require(o.Margin >= 0, $"the margin is {o.Margin}; it must be at least 0");
            Require(o.Scale >= 1 && double.IsFinite(o.Scale), $"the scale is {o.Scale}; the canvas only grows, so it must be at least 1");
        }
        return new OctaveSchedule([.. octaves]);
    }

    /// <summary>The schedule that starts from a mean image (section 2 of the paper, script act_max.tvd.mean): 370 steps on the logit.</summary>
    /// <param name="size">Side of the network's input in pixels.</param>
    public static OctaveSchedule MeanInit(int size) => Custom(
        Published(190, .4, .4, 1, 2),
        Published(150, .01, 2, 1, 1) with { Scale = 1.2 },
        Published(20, .1, 2, 2, 2) with { Window = .2, Margin = Margin(size) },
        Published(10, .4, 2, 2, 2));

    /// <summary>
    /// Center-biased regularization (section 4 of the paper, script act_max.tvd.center): 530 steps, first on the probability with strong smoothing, then on a larger canvas on the logit,
    /// then in the centre only. Start it from <see cref="GreyNoise"/>.
    /// </summary>
    /// <param name="size">Side of the network's input in pixels.</param>
    public static OctaveSchedule CenterBiased(int size) => Custom(
        Published(190, .001, .05, 11, 11) with { Objective = UnitObjective.Probability },
        Published(150, .01, .08, 6, 6) with { Objective = UnitObjective.Probability, Scale = 1.2 },
        Published(150, .01, 2, 1, 1) with { Scale = 1.2 },
        Published(30, .1, 2, 3, 3) with { Window = .1, Margin = Margin(size) },
        Published(10, .01, 2, 6, 3));

    /// <summary>Start of <see cref="CenterBiased"/>: normal grey noise of mean 175 and deviation 8 on the scale 0..255, here in 0..1.</summary>
    /// <param name="count">Images.</param>
    /// <param name="channels">Channels.</param>
    /// <param name="height">Height.</param>
    /// <param name="width">Width.</param>
    /// <param name="seed">Seed.</param>
    /// <returns>float32 [count, channels, height, width] on the CPU.</returns>
    public static Tensor GreyNoise(long count, long channels, long height, long width, int seed = 0)
    {
        using DisposeScope scope = NewDisposeScope();
        return (randn([count, channels, height, width], float32, generator: new Generator((ulong)seed)) * (8 / Levels) + 175 / Levels).clamp(0, 1).MoveToOuterDisposeScope();
    }

    /// <summary>The same schedule with fewer or more steps in each octave.</summary>
    /// <param name="factor">Factor on the iterations, above 0; each octave keeps at least 1.</param>
    public OctaveSchedule Lengthened(double factor)
    {
        if (!(factor > 0) || !double.IsFinite(factor)) throw new ArgumentOutOfRangeException(nameof(factor), factor, "The factor must be above 0.");
        return new OctaveSchedule([.. Octaves.Select(o => o with { Iterations = Math.Max(1, (int)Math.Round(o.Iterations * factor)) })]);
    }

    private static int Margin(int size) => (int)Math.Round(50 * size / PublishedSize);

    private static Octave Published(int iterations, double weightStart, double weightEnd, double stepStart, double stepEnd) => new(iterations)
    {
        WeightStart = weightStart * Levels,
        WeightEnd = weightEnd * Levels,
        StepStart = stepStart / Levels,
        StepEnd = stepEnd / Levels,
        Objective = UnitObjective.Activation,
    };
}
