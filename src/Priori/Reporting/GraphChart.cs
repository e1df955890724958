using ScottPlot;

namespace Priori.Reporting;

/// <summary>A node of a layered graph.</summary>
/// <param name="Label">Text beside it; empty for none.</param>
/// <param name="Group">Its colour: nodes of one group have one.</param>
public sealed record GraphNode(string Label, int Group);

/// <summary>An edge from a node of one layer to a node of the next.</summary>
/// <param name="Layer">Index of the earlier layer.</param>
/// <param name="From">Index of the node in it.</param>
/// <param name="To">Index of the node in the next layer.</param>
/// <param name="Strength">0 to 1: how thick and dark it is drawn.</param>
public sealed record GraphEdge(int Layer, int From, int To, double Strength);

/// <summary>Graphs whose nodes stand in layers, one column a layer.</summary>
public static class GraphChart
{
    /// <summary>Draws the graph: layers from left to right, nodes as points in the colour of their group, edges as lines; an edge within a group has its colour.</summary>
    /// <param name="title">Title above the plot.</param>
    /// <param name="layers">Name of each layer and its nodes, from the top.</param>
    /// <param name="edges">The edges.</param>
    /// <exception cref="ArgumentException">An edge names a layer or node that does not exist, or its strength is outside 0 to 1.</exception>
    public static Plot Layered(string title, IReadOnlyList<(string Name, IReadOnlyList<GraphNode> Nodes)> layers, IReadOnlyList<GraphEdge> edges)
    {
        ArgumentNullException.ThrowIfNull(layers);
        ArgumentNullException.ThrowIfNull(edges);
        Plot plot = Charts.Create(title, "", "");
        double Height(int layer, int node) => -(node + .5) / Math.Max(1, layers[layer].Nodes.Count);
        foreach (GraphEdge edge in edges.OrderBy(e => e.Strength))
        {
            if (edge.Layer < 0 || edge.Layer + 1 >= layers.Count || edge.From < 0 || edge.From >= layers[edge.Layer].Nodes.Count || edge.To < 0 || edge.To >= layers[edge.Layer + 1].Nodes.Count || edge.Strength is not (>= 0 and <= 1))
                throw new ArgumentException($"The graph has no place for {edge}.", nameof(edges));
            int from = layers[edge.Layer].Nodes[edge.From].Group, to = layers[edge.Layer + 1].Nodes[edge.To].Group;
            ScottPlot.Plottables.LinePlot line = plot.Add.Line(edge.Layer, Height(edge.Layer, edge.From), edge.Layer + 1, Height(edge.Layer + 1, edge.To));
            line.Color = (from == to ? Charts.Color(from) : ScottPlot.Color.FromHex("#8c959f")).WithAlpha(.12 + (.75 * edge.Strength));
            line.LineWidth = (float)(.4 + (3 * edge.Strength));
        }
        for (int l = 0; l < layers.Count; l++)
        {
            for (int n = 0; n < layers[l].Nodes.Count; n++)
            {
                GraphNode node = layers[l].Nodes[n];
                plot.Add.Marker(l, Height(l, n), MarkerShape.FilledCircle, 11, Charts.Color(node.Group));
                if (node.Label.Length == 0) continue;
                ScottPlot.Plottables.Text text = plot.Add.Text(node.Label, l, Height(l, n));
                text.LabelFontSize = 11;
                text.OffsetX = 9;
                text.LabelAlignment = Alignment.MiddleLeft;
            }
        }
        plot.Axes.Bottom.SetTicks([.. Enumerable.Range(0, layers.Count).Select(l => (double)l)], [.. layers.Select(l => l.Name)]);
        plot.Axes.Bottom.TickLabelStyle.FontSize = 14;
        plot.Axes.Left.SetTicks([], []);
        plot.Axes.Left.FrameLineStyle.Width = plot.Axes.Bottom.FrameLineStyle.Width = 0;
        plot.HideGrid();
        plot.Axes.SetLimits(-.25, layers.Count - .6, -1.03, .03);
        return plot;
    }
}
