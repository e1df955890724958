using System.Globalization;
using Priori.Nn;
using Priori.Numerics;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Interpretability;

/// <summary>Why an image rested for the remainder of an octave.</summary>
/// <param name="Image">Index of the image in the batch.</param>
/// <param name="Octave">Index of the octave.</param>
/// <param name="Iteration">Step within the octave at which it stopped.</param>
/// <param name="Reason">In words.</param>
public sealed record AmStop(int Image, int Octave, int Iteration, string Reason);

/// <summary>What activation maximisation made.</summary>
/// <param name="Images">[k, channels, height, width] pixels; the canvas after the last octave, at least as large as the input.</param>
/// <param name="ActivationTrace">[iterations, k]: the value of the unit (activation or probability, as the octave says) before each step.</param>
/// <param name="Stops">Images whose gradient vanished, in order; empty when none did.</param>
public sealed record AmResult(Tensor Images, Tensor ActivationTrace, IReadOnlyList<AmStop> Stops);

/// <summary>
/// Activation maximisation with total-variation denoising and jitter over octaves (Nguyen, Yosinski and Clune, 2016, section 2; their scripts): in every step a crop of the canvas
/// moves along its gradient, divided by the gradient's mean absolute value, is clipped to the pixel range, denoised as a proximal step, and put back. All images of a batch
/// are optimised at once and independently: each has its own gradient, its own norm and its own jitter.
/// </summary>
/// <param name="model">Network of [b, channels, height, width]; it is run in evaluation mode, and its mode put back.</param>
/// <param name="unit">The unit.</param>
/// <param name="normalization">How pixels become inputs; none when null.</param>
public sealed class ActivationMaximizer(Module<Tensor, Tensor> model, UnitSelector unit, ImageNormalization? normalization = null)
{
    private readonly ImageNormalization _normalization = normalization ?? ImageNormalization.None;

    /// <summary>Denoiser; its weight comes from the octave. Default split Bregman with at most 100 iterations and the tolerance 1e-3 on the scale 0..255, as in the authors' scripts.</summary>
    public TotalVariationDenoiser Denoiser { get; init; } = new() { MaxIterations = 100, Tolerance = 1e-3 / 255 };

    /// <summary>The valid range of a pixel, to which images are clipped. Default 0..1.</summary>
    public (double Low, double High) PixelRange { get; init; } = (0, 1);

    /// <summary>Runs all octaves.</summary>
    /// <param name="start">Start images [k, channels, height, width] at the size of the network's input, in pixels.</param>
    /// <param name="schedule">The octaves.</param>
    /// <param name="seed">Seed of the jitter. Image i of a batch has its own stream (seed, i).</param>
    /// <param name="cancellation">Ends the run with an exception.</param>
    /// <exception cref="ArgumentException">The unit is out of range, a margin is half the input or more, the start is no batch of images, or a gradient is not finite.</exception>
    public AmResult Run(Tensor start, OctaveSchedule schedule, int seed = 0, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(start);
        ArgumentNullException.ThrowIfNull(schedule);
        if (start.dim() != 4 || start.numel() == 0 || !start.is_floating_point()) throw new ArgumentException($"The start must be floating point [k, channels, height, width], not {start.dtype} [{string.Join(", ", start.shape)}].", nameof(start));
        if (!(PixelRange.Low < PixelRange.High)) throw new ArgumentException($"The pixel range {PixelRange.Low}..{PixelRange.High} is empty.");
        long height = start.shape[2], width = start.shape[3];
        int count = (int)start.shape[0];
        for (int o = 0; o < schedule.Octaves.Count; o++)
            if (2 * schedule.Octaves[o].Margin >= Math.Min(height, width))
                throw new ArgumentException($"Octave {o + 1}: the margin {schedule.Octaves[o].Margin} leaves nothing of {height} x {width} pixels; it must be below half the size.", nameof(schedule));

        bool training = model.training;
        model.eval();
        try
        {
            using DisposeScope scope = NewDisposeScope();
            Device device = model.parameters().FirstOrDefault()?.device ?? start.device;
            Tensor canvas = start.detach().to(device).clone().clamp_(PixelRange.Low, PixelRange.High);
            SplitMix64[] random = [.. Enumerable.Range(0, count).Select(i => SplitMix64.For(seed, i))];
            var stops = new List<AmStop>();
            Tensor trace = zeros([schedule.Iterations, count], float32);
            int row = 0;
            for (int o = 0; o < schedule.Octaves.Count; o++)
            {
                Octave octave = schedule.Octaves[o];
                if (octave.Scale > 1)
                {
                    using Tensor small = canvas;
                    canvas = ImageZoom.Enlarge(small, octave.Scale).clamp_(PixelRange.Low, PixelRange.High);
                }
                bool[] resting = new bool[count];
                for (int i = 0; i < octave.Iterations; i++, row++)
                {
                    cancellation.ThrowIfCancellationRequested();
                    using DisposeScope temporaries = NewDisposeScope();
                    Tensor[] windows = [.. Enumerable.Range(0, count).Select(k =>
                    {
                        long left = CropJitter.Offset(random[k], canvas.shape[3] - width, octave.Window), top = CropJitter.Offset(random[k], canvas.shape[2] - height, octave.Window);
                        return canvas[k].narrow(1, top, height).narrow(2, left, width);
                    })];
                    Tensor crop = stack(windows);
                    (Tensor gradient, Tensor values) = Gradient(crop, octave);
                    trace[row].copy_(values);
                    Tensor size = gradient.abs().mean([1L, 2L, 3L], keepdim: true);
                    float[] sizes = size.to(float32).cpu().data<float>().ToArray();
                    for (int k = 0; k < count; k++)
                    {
                        if (!float.IsFinite(sizes[k])) throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"The gradient of unit {unit} with respect to image {k} is not finite in octave {o + 1}, step {i + 1}."));
                        if (sizes[k] != 0 || resting[k]) continue;
                        resting[k] = true;
                        stops.Add(new AmStop(k, o, i, string.Create(CultureInfo.InvariantCulture, $"The gradient of unit {unit} is zero everywhere: the image rests from step {i + 1} of octave {o + 1} to its end.")));
                    }
                    if (resting.All(r => r))
                    {
                        for (row += 1, i += 1; i < octave.Iterations; i++, row++) trace[row].copy_(values);
                        break;
                    }
                    Tensor moved = NormalizedStep(crop, gradient, octave.Step(i)).clamp_(PixelRange.Low, PixelRange.High);
                    moved = Denoiser.Denoise(moved, octave.Weight(i));
                    for (int k = 0; k < count; k++)
                        if (!resting[k]) windows[k].copy_(moved[k]);
                }
            }
            return new AmResult(canvas.clamp_(PixelRange.Low, PixelRange.High).to(start.device).MoveToOuterDisposeScope(), trace.MoveToOuterDisposeScope(), stops);
        }
        finally
        {
            model.train(training);
        }
    }

    /// <summary>The value of the unit for images.</summary>
    /// <param name="images">[n, channels, height, width] pixels at the size of the network's input.</param>
    /// <param name="objective">What of the unit; its own objective when null.</param>
    /// <param name="batchSize">Images a batch.</param>
    /// <returns>[n].</returns>
    public Tensor Evaluate(Tensor images, UnitObjective? objective = null, int batchSize = 256)
        => Inference.Outputs(model, x => unit.Of(LayerOutput.Of(model, _normalization.Apply(x), unit.Layer), objective), images, batchSize);

    /// <summary>x + step g / mean|g| for every image of a batch; an image whose gradient is zero stays.</summary>
    /// <param name="images">[k, ...].</param>
    /// <param name="gradient">The same shape.</param>
    /// <param name="step">Mean absolute change of an entry.</param>
    public static Tensor NormalizedStep(Tensor images, Tensor gradient, double step)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentNullException.ThrowIfNull(gradient);
        using DisposeScope scope = NewDisposeScope();
        Tensor size = gradient.abs().flatten(1).mean([1L]).view([gradient.shape[0], .. Enumerable.Repeat(1L, (int)gradient.dim() - 1)]);
        return (images + gradient * where(size.eq(0), zeros_like(size), step / size)).MoveToOuterDisposeScope();
    }

    private (Tensor Gradient, Tensor Values) Gradient(Tensor crop, Octave octave)
    {
        Tensor x = crop.detach().requires_grad_();
        Tensor activations = LayerOutput.Of(model, _normalization.Apply(x), unit.Layer);
        Tensor value = unit.Of(activations, octave.Objective).detach();
        // The sum over the batch: images do not share anything in evaluation mode, so each gets its own gradient.
        Tensor gradient = Gradients.Of(unit.Ascended(activations, octave.Objective).sum(), [x])[0];
        if (octave.Margin > 0)
        {
            long inner = octave.Margin, height = gradient.shape[2] - 2 * inner, width = gradient.shape[3] - 2 * inner;
            Tensor kept = zeros_like(gradient);
            kept.narrow(2, inner, height).narrow(3, inner, width).copy_(gradient.narrow(2, inner, height).narrow(3, inner, width));
            gradient = kept;
        }
        return (gradient, value);
    }
}

/// <summary>Offsets of jittered crops.</summary>
public static class CropJitter
{
    /// <summary>Draws the offset of a crop on a larger canvas: normal with mean slack / 2 and deviation window * slack, clipped to 0..slack, rounded down.</summary>
    /// <param name="random">Generator.</param>
    /// <param name="slack">Canvas minus crop in pixels, at least 0; with 0 the offset is 0.</param>
    /// <param name="window">Deviation as a fraction of the slack, at least 0.</param>
    public static long Offset(SplitMix64 random, long slack, double window)
    {
        ArgumentNullException.ThrowIfNull(random);
        ArgumentOutOfRangeException.ThrowIfNegative(slack);
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        return slack == 0 ? 0 : (long)Math.Clamp(slack / 2.0 + random.NextGaussian() * slack * window, 0, slack);
    }
}
