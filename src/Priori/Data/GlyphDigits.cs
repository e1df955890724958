using Priori.Runtime;

namespace Priori.Data;

/// <summary>
/// Handwriting-like digits drawn from vector strokes: a stand-in for MNIST that needs no download. Each digit has three
/// written forms; an image is one of them under a random affine map, a smooth elastic distortion, a pen of random width and
/// softness, and pixel noise. The generator uses only additions, multiplications, divisions and square roots on
/// <see cref="SplitMix64"/>, so a seed names the same bytes on every machine.
/// </summary>
public static class GlyphDigits
{
    private const int FormsPerDigit = 3;
    private const int PointsPerSpan = 4;

    /// <summary>Digit height and width, as a share of the image.</summary>
    private const double Height = 0.68, Width = 0.44;

    /// <summary>
    /// The written forms, three per digit in order 0..9. Strokes are separated by '|' and given by points "x y" in a unit square
    /// (y downward) which a Catmull-Rom spline passes through; a corner is where one stroke ends and the next begins.
    /// </summary>
    private static readonly double[][][] s_forms = Parse(
        ".5 0,.15 .15,0 .5,.15 .85,.5 1,.85 .85,1 .5,.85 .15,.5 0",
        ".75 .08,.4 0,.08 .3,.05 .7,.4 1,.85 .8,.95 .35,.7 .05,.42 .12",
        ".4 .02,.1 .35,.12 .75,.5 1,.9 .7,.95 .3,.65 .02,.4 .02",
        ".5 0,.5 1",
        ".2 .26,.4 .16,.56 0|.56 0,.54 1",
        ".2 .24,.5 0|.5 0,.5 1|.15 1,.85 1",
        ".08 .25,.25 .04,.6 0,.9 .22,.8 .5,.4 .8,.05 1|.05 1,.95 1",
        ".1 .2,.4 0,.85 .15,.8 .5,.4 .88,.12 .98,.05 .86,.25 .78,.6 .95,.98 .93",
        ".1 .3,.3 .02,.75 .03,.9 .33,.5 .68,.08 1|.08 1,1 .94",
        ".08 .15,.45 0,.88 .18,.75 .42,.4 .48|.4 .48,.85 .56,.95 .8,.5 1,.03 .85",
        ".1 .02,.9 .02|.9 .02,.45 .4|.45 .4,.9 .55,.9 .85,.5 1,.05 .88",
        ".12 .1,.55 0,.88 .2,.65 .42,.35 .47,.4 .52,.8 .6,.92 .82,.6 1,.15 .95",
        ".2 0,.12 .3,.08 .58|.08 .58,.98 .55|.75 .05,.7 .55,.68 1",
        ".7 0,.02 .68|.02 .68,1 .68|.7 0,.7 1",
        ".1 .05,.08 .45,.3 .6,.85 .45|.9 0,.85 .45,.8 1",
        ".9 .02,.2 .02|.2 .02,.12 .45|.12 .45,.5 .36,.92 .55,.9 .85,.5 1,.05 .9",
        ".2 .05,.15 .42|.15 .42,.6 .38,.95 .65,.7 .97,.05 .95|.2 .05,.95 0",
        ".92 .06,.5 .02,.15 .18,.25 .42,.75 .55,.9 .8,.5 1,.06 .88",
        ".8 .02,.35 .2,.05 .6,.15 .92,.55 1,.92 .8,.8 .52,.4 .48,.08 .7",
        ".6 0,.25 .32,.08 .65,.22 .95,.6 1,.9 .78,.7 .53,.15 .66",
        ".9 .15,.6 0,.15 .25,.03 .65,.3 1,.8 .95,.92 .7,.6 .5,.1 .62",
        ".05 .03,.95 .03|.95 .03,.55 .5,.4 1",
        ".05 .05,.95 .02|.95 .02,.6 .45,.42 1|.25 .52,.82 .48",
        ".08 .2,.08 .03|.08 .03,.92 .03|.92 .03,.35 1",
        ".5 .48,.12 .3,.2 .05,.6 0,.88 .15,.75 .38,.5 .48,.1 .68,.12 .92,.5 1,.9 .9,.88 .65,.5 .48",
        ".85 .1,.5 0,.15 .18,.35 .42,.8 .65,.85 .92,.45 1,.1 .85,.3 .58,.75 .35,.85 .1",
        ".5 0,.18 .1,.2 .36,.5 .46,.8 .36,.82 .1,.5 0|.5 .46,.1 .6,.1 .88,.5 1,.9 .88,.9 .6,.5 .46",
        ".88 .25,.55 0,.12 .18,.2 .45,.6 .48,.88 .25|.88 .25,.85 .6,.75 1",
        ".85 .2,.5 0,.1 .2,.25 .47,.65 .45,.85 .2|.85 .2,.92 .6,.65 .96,.15 .94",
        ".85 .05,.4 0,.08 .25,.35 .5,.85 .3|.85 .05,.85 .5,.82 1");

    /// <summary>Draws a data set. Use one seed for training images and another for test images.</summary>
    /// <param name="count">Number of images n, at least 1. Labels are balanced: every ten images in a row hold each digit once, in random order.</param>
    /// <param name="seed">The seed. The first images of a seed do not depend on <paramref name="count"/>.</param>
    /// <param name="size">Height and width of an image in pixels, at least 12. Default 28, as MNIST.</param>
    /// <returns>Images [n, 1, size, size] (uint8, bright ink on black), labels [n] (int64) and the class names "0".."9".</returns>
    public static ImageDataset Generate(int count, int seed, int size = 28)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 12);

        byte[] pixels = new byte[(long)count * size * size];
        long[] labels = new long[count];
        Parallel.For(0, (count + 9) / 10, block =>
        {
            long[] digits = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
            SplitMix64.For(seed, 0, block).Shuffle<long>(digits);
            for (int i = block * 10; i < Math.Min(count, (block + 1) * 10); i++)
            {
                labels[i] = digits[i % 10];
                Draw((int)labels[i], SplitMix64.For(seed, 1, i), pixels.AsSpan(i * size * size, size * size), size);
            }
        });
        return new ImageDataset(
            torch.tensor(pixels, [count, 1, size, size], ScalarType.Byte),
            torch.tensor(labels, ScalarType.Int64),
            [.. Enumerable.Range(0, 10).Select(d => $"{d}")]);
    }

    private static void Draw(int digit, SplitMix64 random, Span<byte> image, int size)
    {
        double[][] strokes = s_forms[(digit * FormsPerDigit) + random.Next(FormsPerDigit)];

        // Affine map about the digit's centre: a rotation (by its half-angle tangent, about 12 degrees either way), slant, scale, shift.
        double tangent = 0.06 * Normal(random), slant = 0.16 * Normal(random);
        double sine = 2 * tangent / (1 + (tangent * tangent)), cosine = (1 - (tangent * tangent)) / (1 + (tangent * tangent));
        double scaleX = Width * size * (1 + (0.13 * Normal(random))), scaleY = Height * size * (1 + (0.08 * Normal(random)));
        double shiftX = (size / 2.0) + (0.035 * size * Normal(random)), shiftY = (size / 2.0) + (0.035 * size * Normal(random));
        double radius = size * (0.034 + (0.028 * random.NextDouble())), softness = size * (0.02 + (0.03 * random.NextDouble()));
        double ink = 0.7 + (0.3 * random.NextDouble()), noise = 0.06 * random.NextDouble();

        // Elastic distortion: displacements on a coarse grid over the unit square and its surroundings, smoothed by quadratic B-splines.
        Span<double> field = stackalloc double[2 * 6 * 6];
        foreach (ref double d in field) d = 0.1 * Normal(random);

        Span<double> canvas = size <= 64 ? stackalloc double[size * size] : new double[size * size];
        canvas.Clear();
        foreach (double[] stroke in strokes)
        {
            double lastX = 0, lastY = 0;
            for (int i = 0; i < stroke.Length; i += 2)
            {
                double x = stroke[i], y = stroke[i + 1];
                double u = x + Displacement(field[..36], x, y) - 0.5, v = y + Displacement(field[36..], x, y) - 0.5;
                u = (u * scaleX) - (slant * v * scaleY);
                v *= scaleY;
                (x, y) = ((cosine * u) - (sine * v) + shiftX, (sine * u) + (cosine * v) + shiftY);
                if (i > 0) Segment(canvas, size, lastX, lastY, x, y, radius, softness);
                (lastX, lastY) = (x, y);
            }
        }
        for (int p = 0; p < image.Length; p++)
            image[p] = (byte)(Math.Clamp((ink * canvas[p]) + (noise * Normal(random)), 0, 1) * 255 + 0.5);
    }

    /// <summary>Raises every pixel near the segment to the pen's coverage there: 1 inside, falling linearly to 0 across the soft edge.</summary>
    private static void Segment(Span<double> canvas, int size, double x0, double y0, double x1, double y1, double radius, double softness)
    {
        double reach = radius + softness, dx = x1 - x0, dy = y1 - y0, length = (dx * dx) + (dy * dy);
        double perLength = length > 0 ? 1 / length : 0, perEdge = 1 / (2 * softness);
        int left = Math.Max(0, (int)(Math.Min(x0, x1) - reach)), right = Math.Min(size - 1, (int)(Math.Max(x0, x1) + reach));
        int top = Math.Max(0, (int)(Math.Min(y0, y1) - reach)), bottom = Math.Min(size - 1, (int)(Math.Max(y0, y1) + reach));
        for (int row = top; row <= bottom; row++)
        {
            for (int column = left; column <= right; column++)
            {
                double px = column + 0.5 - x0, py = row + 0.5 - y0;
                double along = Math.Clamp(((px * dx) + (py * dy)) * perLength, 0, 1);
                double ex = px - (along * dx), ey = py - (along * dy), squared = (ex * ex) + (ey * ey);
                if (squared >= reach * reach) continue;
                double coverage = Math.Min((reach - Math.Sqrt(squared)) * perEdge, 1);
                ref double cell = ref canvas[(row * size) + column];
                if (coverage > cell) cell = coverage;
            }
        }
    }

    /// <summary>The quadratic B-spline of a 6 x 6 grid of coefficients whose inner cells cover the unit square.</summary>
    private static double Displacement(ReadOnlySpan<double> grid, double x, double y)
    {
        double gx = 1 + (3 * Math.Clamp(x, 0, 1)), gy = 1 + (3 * Math.Clamp(y, 0, 1));
        int column = Math.Min((int)gx, 3), row = Math.Min((int)gy, 3);
        (double A, double B, double C) wx = Weights(gx - column), wy = Weights(gy - row);
        double sum = 0;
        for (int r = 0; r < 3; r++)
        {
            ReadOnlySpan<double> line = grid.Slice(((row + r) * 6) + column, 3);
            sum += (r == 0 ? wy.A : r == 1 ? wy.B : wy.C) * ((wx.A * line[0]) + (wx.B * line[1]) + (wx.C * line[2]));
        }
        return sum;

        static (double, double, double) Weights(double t) => (0.5 * (1 - t) * (1 - t), 0.5 + (t * (1 - t)), 0.5 * t * t);
    }

    /// <summary>Mean 0, variance 1, nearly normal: the sum of four uniform 16-bit numbers. Exact arithmetic, the same on every machine.</summary>
    private static double Normal(SplitMix64 random)
    {
        ulong bits = random.NextUInt64();
        long sum = (long)((bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) + ((bits >> 32) & 0xFFFF) + (bits >> 48));
        return (sum - 131070) * (1.7320508075688772 / 65536);
    }

    /// <summary>Reads the forms and lays a Catmull-Rom spline through each stroke: x0, y0, x1, y1, ...</summary>
    private static double[][][] Parse(params string[] forms) =>
    [
        .. forms.Select(form => form.Split('|').Select(stroke =>
        {
            double[][] points = [.. stroke.Split(',').Select(p => p.Split(' ').Select(v => double.Parse(v, System.Globalization.CultureInfo.InvariantCulture)).ToArray())];
            List<double> spline = [.. points[0]];
            for (int i = 0; i + 1 < points.Length; i++)
            {
                double[] before = points[Math.Max(i - 1, 0)], from = points[i], to = points[i + 1], after = points[Math.Min(i + 2, points.Length - 1)];
                for (int k = 1; k <= PointsPerSpan; k++)
                {
                    double t = (double)k / PointsPerSpan;
                    for (int axis = 0; axis < 2; axis++)
                    {
                        double p0 = before[axis], p1 = from[axis], p2 = to[axis], p3 = after[axis];
                        spline.Add(0.5 * ((2 * p1) + (t * (p2 - p0 + (t * ((2 * p0) - (5 * p1) + (4 * p2) - p3 + (t * ((3 * p1) - p0 - (3 * p2) + p3))))))));
                    }
                }
            }
            return spline.ToArray();
        }).ToArray()),
    ];
}
