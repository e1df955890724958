using System.Globalization;
using ScottPlot;
using ScottPlot.TickGenerators;
using SkiaSharp;

namespace Priori.Reporting;

/// <summary>One labelled curve with one run per seed.</summary>
/// <param name="Label">Name in the legend.</param>
/// <param name="X">Positions, ascending, in the units of the horizontal axis.</param>
/// <param name="Ys">One list per seed, each as long as <paramref name="X"/>: drawn as their mean with a band from minimum to maximum. Values that are not finite leave a gap.</param>
/// <param name="Dashed">Whether the mean is dashed, as for a baseline or a training curve.</param>
public sealed record Curve(string Label, IReadOnlyList<double> X, IReadOnlyList<IReadOnlyList<double>> Ys, bool Dashed = false)
{
    /// <summary>A curve of a single run.</summary>
    public Curve(string label, IReadOnlyList<double> x, IReadOnlyList<double> y, bool dashed = false)
        : this(label, x, [y], dashed) { }
}

/// <summary>
/// The figures of the recipes: one look, readable at the width of a column, in the colour-blind-safe palette of Okabe and Ito
/// (Color Universal Design, 2008), with legends outside the data. Every method returns a ScottPlot plot that can be changed further.
/// </summary>
public static class Charts
{
    private static readonly ScottPlot.Color s_ink = ScottPlot.Color.FromHex("#24292f");
    private static readonly ScottPlot.Color s_grid = ScottPlot.Color.FromHex("#e4e7eb");

    /// <summary>Okabe and Ito's colours, the strongest on white first; yellow, too light for a line on white, gives way to gray.</summary>
    private static readonly ScottPlot.Color[] s_palette = Hex("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6E6E6E", "#000000");

    /// <summary>Blue over white to red, around zero.</summary>
    private static readonly ScottPlot.Color[] s_diverging = Hex("#0b4a7a", "#0072B2", "#8fc1de", "#f7f7f7", "#f0b48a", "#D55E00", "#8a3b00");

    /// <summary>The colour of the series with this index; the eight colours repeat.</summary>
    /// <param name="index">Index of the series, at least 0.</param>
    public static ScottPlot.Color Color(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        return s_palette[index % s_palette.Length];
    }

    /// <summary>An empty plot in the look of all figures, for what the other methods do not draw.</summary>
    /// <param name="title">Title above the plot; empty for none.</param>
    /// <param name="xLabel">Label of the horizontal axis, with its unit; empty for none.</param>
    /// <param name="yLabel">Label of the vertical axis, with its unit; empty for none.</param>
    public static Plot Create(string title, string xLabel, string yLabel)
    {
        FigureFont.Install();
        Plot plot = new();
        plot.FigureBackground.Color = plot.DataBackground.Color = Colors.White;
        plot.Axes.Color(s_ink);
        plot.Axes.Right.FrameLineStyle.Width = plot.Axes.Top.FrameLineStyle.Width = 0;
        plot.Axes.Margins(0.03, 0.06);
        plot.Grid.MajorLineColor = s_grid;
        plot.Axes.Title.Label.Text = title;
        plot.Axes.Title.Label.FontSize = 19;
        plot.Axes.Title.Label.Bold = true;
        plot.Axes.Title.Label.ForeColor = s_ink;
        plot.Axes.Title.IsVisible = title.Length > 0;
        foreach ((IAxis axis, string label) in new (IAxis, string)[] { (plot.Axes.Bottom, xLabel), (plot.Axes.Left, yLabel) })
        {
            axis.Label.Text = label;
            axis.Label.FontSize = 16;
            axis.Label.Bold = false;
            axis.TickLabelStyle.FontSize = 14;
            axis.MinorTickStyle.Length = 0;
            if (axis.TickGenerator is NumericAutomatic automatic) automatic.TickDensity = 0.6;
        }
        plot.Legend.FontSize = 15;
        plot.Legend.FontColor = s_ink;
        plot.Legend.OutlineWidth = 0;
        plot.Legend.ShadowColor = Colors.Transparent;
        plot.Legend.SymbolWidth = 28;
        plot.Legend.Padding = new PixelPadding(0, 0);
        plot.Legend.TightHorizontalWrapping = true;
        return plot;
    }

    /// <summary>Curves over a common axis, each the mean of its seeds with a band from the smallest to the largest.</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="xLabel">Label of the horizontal axis, with its unit.</param>
    /// <param name="yLabel">Label of the vertical axis, with its unit.</param>
    /// <param name="curves">The curves; they need not share their positions.</param>
    /// <param name="logX">Whether the horizontal axis is logarithmic (base 10); every position must then be above 0.</param>
    /// <param name="logY">Whether the vertical axis is logarithmic (base 10); values of 0 or less leave a gap.</param>
    /// <exception cref="ArgumentException">A seed's values are not as many as the positions, or a position is not above 0 on a logarithmic axis.</exception>
    public static Plot Lines(string title, string xLabel, string yLabel, IReadOnlyList<Curve> curves, bool logX = false, bool logY = false)
    {
        ArgumentNullException.ThrowIfNull(curves);
        Plot plot = Create(title, xLabel, yLabel);
        List<double> allX = [], allY = [];
        for (int i = 0; i < curves.Count; i++)
        {
            Curve curve = curves[i];
            foreach (IReadOnlyList<double> ys in curve.Ys)
            {
                if (ys.Count != curve.X.Count)
                    throw new ArgumentException($"Curve '{curve.Label}' has {curve.X.Count} positions but {ys.Count} values of a seed.", nameof(curves));
            }
            if (logX && curve.X.Any(x => !(x > 0)))
                throw new ArgumentException($"Curve '{curve.Label}' has a position that is not above 0, which a logarithmic axis cannot show.", nameof(curves));

            ScottPlot.Color color = Color(i);
            double[] xs = [.. curve.X.Select(x => logX ? Math.Log10(x) : x)];
            double[][] seeds = [.. curve.Ys.Select(ys => ys.Select(y => !double.IsFinite(y) || (logY && y <= 0) ? double.NaN : logY ? Math.Log10(y) : y).ToArray())];
            (double X, double Low, double Mean, double High)[] points =
            [
                .. xs.Select((x, k) => (x, Seeds: seeds.Select(s => s[k]).Where(double.IsFinite).ToArray()))
                    .Select(p => p.Seeds.Length == 0 ? (p.x, double.NaN, double.NaN, double.NaN) : (p.x, p.Seeds.Min(), Mean(p.Seeds, logY), p.Seeds.Max())),
            ];
            allX.AddRange(xs);
            allY.AddRange(seeds.SelectMany(s => s).Where(double.IsFinite));

            bool first = true;
            foreach ((double X, double Low, double Mean, double High)[] run in FiniteRuns(points))
            {
                if (seeds.Length > 1 && run.Length > 1)
                {
                    ScottPlot.Plottables.FillY band = plot.Add.FillY([.. run.Select(p => p.X)], [.. run.Select(p => p.Low)], [.. run.Select(p => p.High)]);
                    band.FillColor = color.WithAlpha(0.18);
                    band.LineWidth = 0;
                    plot.MoveToBack(band);
                }
                ScottPlot.Plottables.Scatter line = plot.Add.Scatter(run.Select(p => p.X).ToArray(), run.Select(p => p.Mean).ToArray(), color);
                line.LineWidth = 2.5f;
                line.LinePattern = curve.Dashed ? LinePattern.Dashed : LinePattern.Solid;
                line.MarkerSize = xs.Length <= 12 || run.Length == 1 ? 7 : 0;
                if (first) line.LegendText = curve.Label;
                first = false;
            }
        }
        if (logX) LogTicks(plot.Axes.Bottom, allX);
        if (logY) LogTicks(plot.Axes.Left, allY);
        Legend(plot, [.. curves.Select(c => c.Label)]);
        return plot;
    }

    /// <summary>One bar per label at the mean of its values, with a dot for each value (seed).</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="yLabel">Label of the vertical axis, with its unit.</param>
    /// <param name="bars">Label and values of each bar, at least one value each. The first bars may be compared to the last at a glance when the baseline comes first.</param>
    /// <exception cref="ArgumentException">There is no bar, or a bar has no value.</exception>
    public static Plot Bars(string title, string yLabel, IReadOnlyList<(string Label, IReadOnlyList<double> Values)> bars)
    {
        ArgumentNullException.ThrowIfNull(bars);
        return GroupedBars(title, yLabel, [.. bars.Select(b => b.Label)], [("", [.. bars.Select(b => b.Values)])], colorByGroup: true);
    }

    /// <summary>Bars in groups: one group per position of the horizontal axis, one colour per series, a dot for each value (seed).</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="yLabel">Label of the vertical axis, with its unit.</param>
    /// <param name="groups">Label of each group.</param>
    /// <param name="series">Label of each series and its values: one list (of seeds) per group.</param>
    /// <exception cref="ArgumentException">There is no group or series, a series has not one list per group, or a list is empty.</exception>
    public static Plot GroupedBars(string title, string yLabel, IReadOnlyList<string> groups, IReadOnlyList<(string Label, IReadOnlyList<IReadOnlyList<double>> Values)> series) =>
        GroupedBars(title, yLabel, groups, series, colorByGroup: false);

    private static Plot GroupedBars(string title, string yLabel, IReadOnlyList<string> groups, IReadOnlyList<(string Label, IReadOnlyList<IReadOnlyList<double>> Values)> series, bool colorByGroup)
    {
        if (groups.Count == 0 || series.Count == 0) throw new ArgumentException("There is nothing to draw: give at least one bar.", nameof(series));
        Plot plot = Create(title, "", yLabel);
        double width = 0.8 / series.Count;
        for (int s = 0; s < series.Count; s++)
        {
            if (series[s].Values.Count != groups.Count)
                throw new ArgumentException($"Series '{series[s].Label}' has {series[s].Values.Count} lists of values for {groups.Count} groups.", nameof(series));
            for (int g = 0; g < groups.Count; g++)
            {
                double[] values = [.. series[s].Values[g]];
                if (values.Length == 0) throw new ArgumentException($"The bar '{(colorByGroup ? groups[g] : $"{series[s].Label}, {groups[g]}")}' has no value.", nameof(series));
                ScottPlot.Color color = Color(colorByGroup ? g : s);
                double position = g + ((s - ((series.Count - 1) / 2.0)) * width);
                ScottPlot.Plottables.BarPlot bar = plot.Add.Bar(new Bar { Position = position, Value = Finite(values.Average()), Size = width * 0.9, FillColor = color.MixedWith(Colors.White, 0.25), LineWidth = 0 });
                if (!colorByGroup && g == 0) bar.LegendText = series[s].Label;
                if (values.Length == 1) continue;
                for (int k = 0; k < values.Length; k++)
                {
                    if (!double.IsFinite(values[k])) continue;
                    double offset = (k - ((values.Length - 1) / 2.0)) * width * Math.Min(0.12, 0.6 / values.Length);
                    ScottPlot.Plottables.Marker dot = plot.Add.Marker(position + offset, values[k], MarkerShape.FilledCircle, 7, s_ink);
                    dot.MarkerLineColor = Colors.White;
                    dot.MarkerLineWidth = 1;
                }
            }
        }
        CategoryTicks(plot.Axes.Bottom, groups);
        plot.Grid.XAxisStyle.IsVisible = false;
        plot.Axes.SetLimitsX(-0.6, groups.Count - 0.4);
        double[] all = [.. series.SelectMany(s => s.Values).SelectMany(v => v).Where(double.IsFinite)];
        double low = Math.Min(0, all.DefaultIfEmpty(0).Min()), high = Math.Max(0, all.DefaultIfEmpty(1).Max());
        double room = high > low ? 0.06 * (high - low) : 1;
        plot.Axes.SetLimitsY(low < 0 ? low - room : 0, high > 0 ? high + room : room);
        if (!colorByGroup) Legend(plot, [.. series.Select(s => s.Label)]);
        return plot;
    }

    /// <summary>A matrix as colours (viridis; blue to red around zero when it has both signs), with a colour bar and, when it is small, the values in the cells.</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="values">The matrix, [rows, columns]; row 0 is drawn at the top. Values that are not finite are left gray.</param>
    /// <param name="xLabel">What the columns are.</param>
    /// <param name="yLabel">What the rows are.</param>
    /// <param name="xTicks">Label of each column; null numbers them from 0.</param>
    /// <param name="yTicks">Label of each row; null numbers them from 0.</param>
    /// <exception cref="ArgumentException">The matrix is empty, or the labels are not as many as the columns or rows.</exception>
    public static Plot Heatmap(string title, double[,] values, string xLabel, string yLabel, string[]? xTicks = null, string[]? yTicks = null)
    {
        ArgumentNullException.ThrowIfNull(values);
        int rows = values.GetLength(0), columns = values.GetLength(1);
        if (values.Length == 0) throw new ArgumentException("The matrix is empty.", nameof(values));
        if (xTicks is not null && xTicks.Length != columns) throw new ArgumentException($"{xTicks.Length} labels for {columns} columns.", nameof(xTicks));
        if (yTicks is not null && yTicks.Length != rows) throw new ArgumentException($"{yTicks.Length} labels for {rows} rows.", nameof(yTicks));

        double[] finite = [.. values.Cast<double>().Where(double.IsFinite)];
        double low = finite.DefaultIfEmpty(0).Min(), high = finite.DefaultIfEmpty(1).Max();
        bool signed = low < 0 && high > 0;
        if (signed) (low, high) = (-Math.Max(-low, high), Math.Max(-low, high));
        if (low == high) high = low + 1;

        double[,] cells = (double[,])values.Clone();
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                cells[r, c] = !double.IsFinite(cells[r, c]) ? double.NaN
                    : high - cells[r, c] < 1e-9 * (high - low) ? high // ScottPlot's interpolated colours fail a rounding error below the end of the range.
                    : cells[r, c];

        Plot plot = Create(title, xLabel, yLabel);
        ScottPlot.Plottables.Heatmap map = plot.Add.Heatmap(cells);
        map.Extent = new CoordinateRect(0, columns - 1, 0, rows - 1);
        map.Colormap = signed
            ? new ScottPlot.Colormaps.CustomInterpolated(s_diverging)
            : new ScottPlot.Colormaps.Viridis();
        map.ManualRange = new ScottPlot.Range(low, high);
        map.NaNCellColor = ScottPlot.Color.FromHex("#cccccc");

        if (rows <= 12 && columns <= 12)
        {
            for (int r = 0; r < rows; r++)
            {
                for (int c = 0; c < columns; c++)
                {
                    if (!double.IsFinite(values[r, c])) continue;
                    ScottPlot.Plottables.Text text = plot.Add.Text(Short(values[r, c]), c, rows - 1 - r);
                    text.LabelFontSize = Math.Max(rows, columns) <= 8 ? 14 : 11;
                    text.LabelAlignment = Alignment.MiddleCenter;
                    ScottPlot.Color cell = map.Colormap.GetColor((cells[r, c] - low) / (high - low));
                    text.LabelFontColor = (0.299 * cell.R) + (0.587 * cell.G) + (0.114 * cell.B) > 140 ? s_ink : Colors.White;
                }
            }
        }
        CategoryTicks(plot.Axes.Bottom, xTicks ?? Numbers(columns), thin: xTicks is null);
        CategoryTicks(plot.Axes.Left, [.. (yTicks ?? Numbers(rows)).Reverse()], thin: yTicks is null);
        plot.HideGrid();
        plot.Axes.SetLimits(-0.5, columns - 0.5, -0.5, rows - 0.5);
        ScottPlot.Panels.ColorBar bar = plot.Add.ColorBar(map);
        bar.Axis.TickLabelStyle.FontSize = 13;
        bar.Axis.MinorTickStyle.Length = 0;
        return plot;
    }

    /// <summary>Points in the plane, one colour per group.</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="xLabel">Label of the horizontal axis, with its unit.</param>
    /// <param name="yLabel">Label of the vertical axis, with its unit.</param>
    /// <param name="groups">Label and coordinates of each group. Groups with a label that is empty are left out of the legend.</param>
    /// <exception cref="ArgumentException">A group has not as many X as Y.</exception>
    public static Plot Scatter(string title, string xLabel, string yLabel, IReadOnlyList<(string Label, double[] X, double[] Y)> groups)
    {
        ArgumentNullException.ThrowIfNull(groups);
        Plot plot = Create(title, xLabel, yLabel);
        int total = groups.Sum(g => g.X.Length);
        for (int i = 0; i < groups.Count; i++)
        {
            (string label, double[] x, double[] y) = groups[i];
            if (x.Length != y.Length) throw new ArgumentException($"Group '{label}' has {x.Length} X and {y.Length} Y.", nameof(groups));
            int[] shown = [.. Enumerable.Range(0, x.Length).Where(k => double.IsFinite(x[k]) && double.IsFinite(y[k]))];
            ScottPlot.Plottables.Scatter points = plot.Add.ScatterPoints(shown.Select(k => x[k]).ToArray(), shown.Select(k => y[k]).ToArray(), Color(i).WithAlpha(total > 400 ? 0.55 : 0.85));
            points.MarkerSize = total > 2000 ? 4 : total > 400 ? 5 : 8;
            points.MarkerShape = (i / s_palette.Length) switch { 0 => MarkerShape.FilledCircle, 1 => MarkerShape.FilledTriangleUp, _ => MarkerShape.FilledSquare };
            points.LegendText = label;
        }
        Legend(plot, [.. groups.Select(g => g.Label)]);
        return plot;
    }

    /// <summary>Distributions over common bins, as shares of each group.</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="xLabel">Label of the horizontal axis, with its unit.</param>
    /// <param name="groups">Label and values of each group; values that are not finite are left out.</param>
    /// <param name="bins">Number of bins of equal width from the smallest to the largest value, at least 1. Default 40.</param>
    /// <exception cref="ArgumentException">No group has a finite value.</exception>
    public static Plot Histogram(string title, string xLabel, IReadOnlyList<(string Label, IReadOnlyList<double> Values)> groups, int bins = 40)
    {
        ArgumentNullException.ThrowIfNull(groups);
        ArgumentOutOfRangeException.ThrowIfLessThan(bins, 1);
        double[] all = [.. groups.SelectMany(g => g.Values).Where(double.IsFinite)];
        if (all.Length == 0) throw new ArgumentException("No group has a finite value.", nameof(groups));
        double low = all.Min(), width = (all.Max() - low) / bins;
        if (width == 0) (low, width) = (low - 0.5, 1.0 / bins);

        Plot plot = Create(title, xLabel, "Share of values");
        for (int i = 0; i < groups.Count; i++)
        {
            double[] values = [.. groups[i].Values.Where(double.IsFinite)];
            double[] share = new double[bins];
            foreach (double value in values) share[Math.Clamp((int)((value - low) / width), 0, bins - 1)] += 1.0 / values.Length;
            // The outline of the bars: two corners per bin, down to zero at both ends.
            double[] x = [low, .. Enumerable.Range(0, bins).SelectMany(b => new[] { low + (b * width), low + ((b + 1) * width) }), low + (bins * width)];
            double[] y = [0, .. share.SelectMany(s => new[] { s, s }), 0];
            ScottPlot.Plottables.Scatter outline = plot.Add.ScatterLine(x, y, Color(i));
            outline.LineWidth = 2;
            outline.FillY = true;
            outline.FillYColor = Color(i).WithAlpha(0.2);
            outline.LegendText = groups[i].Label;
        }
        plot.Axes.SetLimitsY(0, plot.Axes.GetLimits().Top);
        plot.Axes.Margins(0.03, 0.06);
        Legend(plot, [.. groups.Select(g => g.Label)]);
        return plot;
    }

    /// <summary>Images in a grid, for samples, reconstructions or nearest neighbours.</summary>
    /// <param name="title">Title above the grid.</param>
    /// <param name="images">The images in reading order, [n, 1 or 3, height, width]: uint8 in 0..255 or floating point in 0..1 (clipped).</param>
    /// <param name="columns">Images in a row, at least 1.</param>
    /// <param name="rowLabels">Label at the left of each row; null for none.</param>
    /// <param name="columnLabels">Label above each column; null for none.</param>
    /// <exception cref="ArgumentException">The images have another shape, or the labels are not as many as the rows or columns.</exception>
    public static Plot Images(string title, Tensor images, int columns, IReadOnlyList<string>? rowLabels = null, IReadOnlyList<string>? columnLabels = null)
    {
        ArgumentNullException.ThrowIfNull(images);
        ArgumentOutOfRangeException.ThrowIfLessThan(columns, 1);
        if (images.dim() != 4 || images.shape[0] == 0 || images.shape[1] is not (1 or 3))
            throw new ArgumentException($"Images must be [n, 1 or 3, height, width]; these are [{string.Join(", ", images.shape)}].", nameof(images));
        int count = (int)images.shape[0], channels = (int)images.shape[1], height = (int)images.shape[2], width = (int)images.shape[3];
        int rows = (count + columns - 1) / columns;
        if (rowLabels is not null && rowLabels.Count != rows) throw new ArgumentException($"{rowLabels.Count} labels for {rows} rows.", nameof(rowLabels));
        if (columnLabels is not null && columnLabels.Count != columns) throw new ArgumentException($"{columnLabels.Count} labels for {columns} columns.", nameof(columnLabels));

        byte[] pixels;
        using (torch.NewDisposeScope())
        using (torch.no_grad())
        {
            Tensor bytes = images.dtype == ScalarType.Byte ? images : (images.to(ScalarType.Float32).nan_to_num().clamp(0, 1) * 255).round();
            pixels = bytes.to(ScalarType.Byte).cpu().contiguous().data<byte>().ToArray();
        }
        Plot plot = Create(title, "", "");
        double aspect = (double)height / width;
        for (int i = 0; i < count; i++)
        {
            using SKBitmap bitmap = new(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque);
            for (int y = 0; y < height; y++)
            {
                for (int x = 0; x < width; x++)
                {
                    byte At(int c) => pixels[(((((i * channels) + Math.Min(c, channels - 1)) * height) + y) * width) + x];
                    bitmap.SetPixel(x, y, new SKColor(At(0), At(1), At(2)));
                }
            }
            double left = i % columns, top = (rows - (i / columns)) * aspect;
            ScottPlot.Plottables.ImageRect rect = plot.Add.ImageRect(new Image(bitmap), new CoordinateRect(left + 0.03, left + 0.97, top - (0.97 * aspect), top - (0.03 * aspect)));
            rect.AntiAlias = false;
        }
        plot.HideGrid();
        plot.Axes.Bottom.FrameLineStyle.Width = plot.Axes.Left.FrameLineStyle.Width = 0;
        CategoryTicks(plot.Axes.Bottom, [.. Enumerable.Repeat("", columns)], start: 0.5);
        CategoryTicks(plot.Axes.Left, rowLabels is null ? [.. Enumerable.Repeat("", rows)] : [.. rowLabels.Reverse()], start: 0.5 * aspect, step: aspect);
        for (int c = 0; c < (columnLabels?.Count ?? 0); c++)
        {
            ScottPlot.Plottables.Text text = plot.Add.Text(columnLabels![c], c + 0.5, rows * aspect);
            text.LabelAlignment = Alignment.LowerCenter;
            text.LabelFontSize = 14;
            text.LabelFontColor = s_ink;
        }
        plot.Axes.SetLimits(0, columns, 0, (rows * aspect) + (columnLabels is null ? 0 : 0.06 * Math.Max(columns, rows * aspect)));
        plot.Axes.Rules.Add(new ScottPlot.AxisRules.SquareZoomOut(plot.Axes.Bottom, plot.Axes.Left));
        return plot;
    }

    /// <summary>Adds a dashed gray horizontal line, such as chance level or a paper's figure, with its label at the right.</summary>
    /// <param name="plot">The plot to draw on; its vertical axis must not be logarithmic.</param>
    /// <param name="y">Height of the line, in the units of the vertical axis.</param>
    /// <param name="label">Label in the legend.</param>
    public static Plot WithReference(this Plot plot, double y, string label)
    {
        ArgumentNullException.ThrowIfNull(plot);
        ScottPlot.Plottables.HorizontalLine line = plot.Add.HorizontalLine(y, 1.5f, Color(6), LinePattern.Dashed);
        line.LegendText = label;
        Legend(plot, [label, label]);
        return plot;
    }

    private static ScottPlot.Color[] Hex(params string[] colors) => [.. colors.Select(ScottPlot.Color.FromHex)];

    private static void Legend(Plot plot, string[] labels)
    {
        if (labels.Count(l => l.Length > 0) < 2) plot.HideLegend();
        else if (plot.Axes.GetPanels().OfType<ScottPlot.Panels.LegendPanel>().Any()) return;
        else
        {
            plot.Legend.Orientation = labels.Sum(l => l.Length + 6) <= 90 ? Orientation.Horizontal : Orientation.Vertical;
            ScottPlot.Panels.LegendPanel panel = plot.ShowLegend(plot.Legend.Orientation == Orientation.Horizontal ? Edge.Bottom : Edge.Right);
            panel.Padding = new PixelPadding(12, 8);
        }
    }

    /// <summary>Ticks of an axis that carries log10 of its values: powers of ten, or 1, 2 and 5 of each when there are fewer than three.</summary>
    private static void LogTicks(IAxis axis, List<double> logs)
    {
        if (logs.Count == 0) return;
        double low = logs.Min(), high = logs.Max();
        NumericManual ticks = new();
        int[] digits = high - low < 2 ? [1, 2, 5] : [1];
        int stride = Math.Max(1, (int)Math.Ceiling((high - low) / 10));
        for (int power = (int)Math.Floor(low - 0.5); power <= Math.Ceiling(high + 0.5); power++)
        {
            foreach (int digit in digits)
            {
                double position = power + Math.Log10(digit);
                if (position < low - 0.35 || position > high + 0.35) continue;
                if (power % stride == 0) ticks.AddMajor(position, power is >= -3 and <= 4 ? Short(digit * Math.Pow(10, power)) : $"{(digit == 1 ? "" : $"{digit}·")}10{Superscript(power)}");
            }
            for (int digit = 2; digit < 10 && high - low < 5; digit++) ticks.AddMinor(power + Math.Log10(digit));
        }
        axis.TickGenerator = ticks;
        axis.MinorTickStyle.Length = 3;
    }

    private static void CategoryTicks(IAxis axis, IReadOnlyList<string> labels, double start = 0, double step = 1, bool thin = false)
    {
        NumericManual ticks = new();
        int stride = thin ? RoundStep(labels.Count / 12.0) : 1;
        bool reversed = thin && axis is IYAxis; // numbered from the top
        for (int i = 0; i < labels.Count; i++)
            if ((reversed ? labels.Count - 1 - i : i) % stride == 0) ticks.AddMajor(start + (i * step), labels[i]);
        axis.TickGenerator = ticks;
        axis.MajorTickStyle.Length = 0;
        // Labels that would run into one another are turned.
        if (axis is IXAxis && labels.Count * (labels.Max(l => l.Length) + 2) > 90 && !thin)
        {
            axis.TickLabelStyle.Rotation = -35;
            axis.TickLabelStyle.Alignment = Alignment.UpperRight;
            axis.MinimumSize = Math.Min(180, 24 + (labels.Max(l => l.Length) * 5));
        }
    }

    /// <summary>The mean over seeds; of values on a logarithmic axis, the logarithm of the mean of the values themselves.</summary>
    private static double Mean(double[] values, bool logs) => logs ? Math.Log10(values.Average(v => Math.Pow(10, v))) : values.Average();

    private static IEnumerable<(double X, double Low, double Mean, double High)[]> FiniteRuns((double X, double Low, double Mean, double High)[] points)
    {
        for (int i = 0; i < points.Length;)
        {
            int start = i;
            while (i < points.Length && double.IsFinite(points[i].Mean)) i++;
            if (i > start) yield return points[start..i];
            while (i < points.Length && !double.IsFinite(points[i].Mean)) i++;
        }
    }

    /// <summary>The smallest of 1, 2, 5, 10, 20, 50, ... that is at least <paramref name="step"/>.</summary>
    private static int RoundStep(double step)
    {
        for (int power = 1; ; power *= 10)
            foreach (int digit in (ReadOnlySpan<int>)[1, 2, 5])
                if (digit * power >= step) return digit * power;
    }

    private static double Finite(double value) => double.IsFinite(value) ? value : 0;

    private static string[] Numbers(int count) => [.. Enumerable.Range(0, count).Select(i => i.ToString(CultureInfo.InvariantCulture))];

    private static string Short(double value) => value == Math.Round(value) && Math.Abs(value) < 1e6
        ? value.ToString("0", CultureInfo.InvariantCulture)
        : Math.Abs(value) >= 100 ? value.ToString("G4", CultureInfo.InvariantCulture) : value.ToString(Math.Abs(value) >= 0.095 ? "0.##" : "G2", CultureInfo.InvariantCulture);

    private static string Superscript(int power) =>
        string.Concat(power.ToString(CultureInfo.InvariantCulture).Select(c => c == '-' ? '⁻' : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c - '0']));
}
