using Priori.Reporting;
using ScottPlot;
using SkiaSharp;

namespace Priori.Tests.Reporting;

public sealed class ChartsTests
{
    private static readonly double[] s_x = [.. Enumerable.Range(1, 40).Select(i => (double)i)];

    private static Plot Lines() => Charts.Lines("Test accuracy, 40 % symmetric label noise (λ = 3)", "Epoch", "Accuracy (%)",
    [
        new Curve("Cross-entropy", s_x, [.. Enumerable.Range(0, 3).Select(s => s_x.Select(x => 60 + (20 * Math.Exp(-x / 9)) + (4 * Math.Sin(x + s))).ToArray())], Dashed: true),
        new Curve("Early-learning regularization", s_x, [.. Enumerable.Range(0, 3).Select(s => s_x.Select(x => 91 - (30 * Math.Exp(-x / 5)) + Math.Cos(x * (s + 1))).ToArray())]),
        new Curve("Clean labels", s_x, [s_x.Select(x => x == 20 ? double.NaN : 95 - (25 / x)).ToArray()]),
    ]);

    private static readonly (string Name, Func<Plot> Draw)[] s_figures =
    [
        ("lines", Lines),
        ("loglog", () => Charts.Lines("Excess risk by sample size", "Samples n", "Excess risk", [new Curve("Ridge", [10, 100, 1000, 10000], [1.1, 0.2, 0.031, 0.004]), new Curve("Kernel, σ² ≤ 1", [10, 100, 1000, 10000], [[2.0, 0.6, 0.2, 0.06], [2.4, 0.8, 0.25, 0.08]])], logX: true, logY: true)),
        ("bars", () => Charts.Bars("Accuracy by arm", "Accuracy (%)", [("Cross-entropy", [61, 63.5, 60]), ("Mixup", [70, 72, 71]), ("ELR", [88, 89.5, 90]), ("Clean", [95, 94, 95])])),
        ("groups", () => Charts.GroupedBars("AUC by dataset", "AUC", ["Frappe", "MovieLens", "Criteo sample", "Adult"], [("FM", [[0.9], [0.8, 0.79], [0.7], [0.86]]), ("ARM-Net", [[0.95], [0.82, 0.84], [0.72], [0.9]])])),
        ("heatmap", () => Charts.Heatmap("Correlation of factors", new[,] { { 1, -0.2, 0.05 }, { -0.2, 1, double.NaN }, { 0.05, 0.31, 1 } }, "Latent", "Factor", ["z₁", "z₂", "z₃"], ["shape", "scale", "angle θ"])),
        ("heatmap-cosines", () => Charts.Heatmap("Cosines", new[,] { { 1, -0.4 }, { -0.4, Math.BitDecrement(1) } }, "", "")),
        ("heatmap-large", () => { double[,] m = new double[50, 80]; for (int r = 0; r < 50; r++) for (int c = 0; c < 80; c++) m[r, c] = r + (c * 0.5); return Charts.Heatmap("Large", m, "Column", "Row"); }),
        ("scatter", () => Charts.Scatter("Embedding", "Component 1", "Component 2", [.. Enumerable.Range(0, 10).Select(d => ($"digit {d}", Enumerable.Range(0, 60).Select(i => Math.Cos(d) + (0.2 * Math.Sin(i * 1.7))).ToArray(), Enumerable.Range(0, 60).Select(i => Math.Sin(d) + (0.2 * Math.Cos(i * 2.3))).ToArray()))])),
        ("histogram", () => Charts.Histogram("Loss per sample", "Loss (nats)", [("clean", [.. Enumerable.Range(0, 500).Select(i => Math.Abs(Math.Sin(i)))]), ("mislabelled", [.. Enumerable.Range(0, 500).Select(i => 1.5 + Math.Cos(i))])])),
        ("images", () => { using Tensor t = torch.arange(0, 12 * 64).reshape(12, 1, 8, 8).to(ScalarType.Float32) / 768; return Charts.Images("Samples", t, 6, ["real", "generated"], ["a", "b", "c", "d", "e", "f"]); }),
        ("reference", () => Charts.Bars("Accuracy", "Accuracy (%)", [("a", [30.0]), ("b", [55.0])]).WithReference(10, "chance")),
    ];

    public static TheoryData<string> Names => [.. s_figures.Select(f => f.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_figure_renders_and_twice_gives_the_same_pixels(string name)
    {
        Func<Plot> draw = s_figures.Single(f => f.Name == name).Draw;
        byte[] first = draw().GetImageBytes(900, 560, ImageFormat.Png);
        byte[] second = draw().GetImageBytes(900, 560, ImageFormat.Png);
        if (Environment.GetEnvironmentVariable("PRIORI_TEST_FIGURES") is { } folder) File.WriteAllBytes(Path.Combine(folder, name + ".png"), first);
        Assert.Equal(first, second);
        using SKBitmap bitmap = SKBitmap.Decode(first);
        Assert.Equal((900, 560), (bitmap.Width, bitmap.Height));
    }

    [Fact]
    public void Text_is_drawn_in_the_font_of_the_package()
    {
        Plot plot = Charts.Create("Title", "x", "y");
        Assert.Equal("Inter", plot.Axes.Title.Label.FontName);
        Assert.Equal("Inter", ScottPlot.Fonts.GetTypeface("Inter", bold: false, italic: false).FamilyName);
        Assert.StartsWith("Inter", ScottPlot.Fonts.GetTypeface("Inter", bold: true, italic: false).FamilyName, StringComparison.Ordinal);
        Assert.True(ScottPlot.Fonts.GetTypeface("Inter", bold: false, italic: false).ContainsGlyphs("Aαβλσθ≤≥±→²₁⁻∞∑·é"));
    }

    [Fact]
    public void The_title_puts_ink_on_the_figure()
    {
        static int Ink(string title)
        {
            using SKBitmap bitmap = SKBitmap.Decode(Charts.Create(title, "", "").GetImageBytes(600, 400, ImageFormat.Png));
            return bitmap.Pixels.Take(600 * 30).Count(p => p.Red < 128);
        }
        Assert.True(Ink("Accuracy of the arms") > Ink("") + 300);
    }

    [Fact]
    public void Bars_stand_at_the_mean_of_their_values()
    {
        Plot plot = Charts.Bars("", "", [("a", [1.0, 2.0, 6.0])]);
        ScottPlot.Plottables.BarPlot bar = plot.GetPlottables<ScottPlot.Plottables.BarPlot>().Single();
        Assert.Equal(3.0, bar.Bars.Single().Value);
        Assert.Equal([1.0, 2.0, 6.0], plot.GetPlottables<ScottPlot.Plottables.Marker>().Select(m => m.Y).Order());
    }

    [Fact]
    public void A_curve_is_the_mean_of_its_seeds_with_a_band_from_minimum_to_maximum()
    {
        Plot plot = Charts.Lines("", "", "", [new Curve("a", [0, 1], [[1, 2], [3, 8]])]);
        ScottPlot.Plottables.Scatter line = plot.GetPlottables<ScottPlot.Plottables.Scatter>().Single();
        Assert.Equal([2.0, 5.0], line.Data.GetScatterPoints().Select(p => p.Y));
        AxisLimits band = plot.GetPlottables<ScottPlot.Plottables.FillY>().Single().GetAxisLimits();
        Assert.Equal((1.0, 8.0), (band.Bottom, band.Top));
    }

    [Fact]
    public void A_value_that_is_not_finite_leaves_a_gap()
    {
        Plot plot = Charts.Lines("", "", "", [new Curve("a", [0, 1, 2, 3, 4], [1, 2, double.NaN, 4, 5])]);
        Assert.Equal([2, 2], plot.GetPlottables<ScottPlot.Plottables.Scatter>().Select(s => s.Data.GetScatterPoints().Count));
    }

    [Fact]
    public void Bad_input_is_named()
    {
        Assert.Contains("2 positions but 1 values", Assert.Throws<ArgumentException>(() => Charts.Lines("", "", "", [new Curve("a", [1, 2], [1.0])])).Message, StringComparison.Ordinal);
        Assert.Contains("not above 0", Assert.Throws<ArgumentException>(() => Charts.Lines("", "", "", [new Curve("a", [0, 2], [1.0, 1.0])], logX: true)).Message, StringComparison.Ordinal);
        Assert.Contains("'a' has no value", Assert.Throws<ArgumentException>(() => Charts.Bars("", "", [("a", [])])).Message, StringComparison.Ordinal);
        Assert.Contains("1 labels for 2 columns", Assert.Throws<ArgumentException>(() => Charts.Heatmap("", new double[1, 2], "", "", ["a"])).Message, StringComparison.Ordinal);
        Assert.Contains("1 X and 2 Y", Assert.Throws<ArgumentException>(() => Charts.Scatter("", "", "", [("a", [1], [1, 2])])).Message, StringComparison.Ordinal);
        using Tensor flat = torch.zeros(3, 8, 8);
        Assert.Contains("[3, 8, 8]", Assert.Throws<ArgumentException>(() => Charts.Images("", flat, 2)).Message, StringComparison.Ordinal);
    }
}
