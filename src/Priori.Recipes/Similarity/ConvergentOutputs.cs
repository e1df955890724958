using System.Globalization;
using System.Text;
using System.Text.Json;
using Priori.Data;
using Priori.Nn;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Recipes.Similarity;

/// <summary>The correspondence of a pair of layers, as a run keeps it.</summary>
/// <param name="Layer">Layer of the first network.</param>
/// <param name="LayerB">Layer of the second network.</param>
/// <param name="UnitsA">Its units.</param>
/// <param name="UnitsB">Units of the other.</param>
/// <param name="Observations">Observations of the statistics.</param>
public sealed record ConvergentLayer(string Layer, string LayerB, int UnitsA, int UnitsB, long Observations);

/// <summary>What <see cref="ConvergentLearningRecipe"/> saves for <c>priori apply</c>.</summary>
/// <param name="Layers">The layers; tensors of layer i begin with "i/".</param>
/// <param name="Lambda">Penalty of the maps.</param>
public sealed record ConvergentMaps(IReadOnlyList<ConvergentLayer> Layers, double Lambda);

internal static class ConvergentOutputs
{
    private const int ShownRows = 20, NamedSources = 10;
    private const long LargestHeatmap = 1 << 20; // cells

    public static void Measure(ArmRun run, LayerConvergence layer, ConvergentLearningRecipeOptions options)
    {
        void Metric(string name, double value) => run.Metric($"{layer.Layer} {name}", value);
        Metric("semi", layer.SemiAtoB.Mean);
        Metric("semi, back", layer.SemiBtoA.Mean);
        Metric("match", layer.Matching.Mean);
        Metric("match, dead as 0", UnitMatching.Bipartite(layer.Correlation.Between).Mean);
        Metric("random", layer.RandomPairing);
        Metric("single error", layer.StitchAtoB.MeanBestSingle);
        if (options.Lambdas.Contains(0)) Metric("dense error", layer.StitchAtoB[0].MeanError);
        if (options.Lambdas.Contains(0)) Metric("dense error, back", layer.StitchBtoA[0].MeanError);
        Metric("lasso error", layer.StitchAtoB[options.Lambda].MeanError);
        Metric("lasso units", layer.StitchAtoB[options.Lambda].MeanNonZeros);
        Metric("lasso error, back", layer.StitchBtoA[options.Lambda].MeanError);
        Metric("lasso units, back", layer.StitchBtoA[options.Lambda].MeanNonZeros);
        Metric("shared", layer.Spectral.SharedFraction);
        Metric("shared, hierarchical", layer.Hierarchical.SharedFraction);
        if (layer.InformationAgreement is { } agreement)
        {
            Metric("agreement", agreement);
            int[] partners = layer.InformationMatching!.Assignment;
            Metric("match by information", Enumerable.Range(0, partners.Length).Where(a => partners[a] >= 0).Average(a => layer.Correlation.Between[a, partners[a]].item<double>()));
        }
        Metric("dead", layer.Correlation.A.Dead.Count(d => d) + layer.Correlation.B.Dead.Count(d => d));
        Metric("unique", layer.Matching.Unique.Count);
        StitchMap[] maps = [.. layer.StitchAtoB.Maps.OrderBy(m => m.Lambda)];
        double[] lambdas = [.. maps.Select(m => m.Lambda), double.MaxValue]; // the last is the best single unit
        run.Series($"{layer.Layer} path error", lambdas, [.. maps.Select(m => m.MeanError), layer.StitchAtoB.MeanBestSingle]);
        run.Series($"{layer.Layer} path units", lambdas, [.. maps.Select(m => m.MeanNonZeros), 1]);
    }

    /// <summary>Writes matching_, stitch_ and clusters_LAYER.csv and summary.json, and keeps the maps.</summary>
    public static void Save(ArmRun run, RunContext context, IReadOnlyList<LayerConvergence> report, IReadOnlyList<string> layersB, ConvergentLearningRecipeOptions options)
    {
        using DisposeScope scope = NewDisposeScope();
        var tensors = new Dictionary<string, Tensor>();
        for (int i = 0; i < report.Count; i++)
        {
            LayerConvergence layer = report[i];
            string file = string.Concat(layer.Layer.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '_'));
            AtomicFile.WriteText(context.OutputPath($"matching_{file}.csv"), MatchingCsv(layer));
            AtomicFile.WriteText(context.OutputPath($"stitch_{file}.csv"), StitchCsv(layer));
            AtomicFile.WriteText(context.OutputPath($"clusters_{file}.csv"), ClustersCsv(layer));
            void Keep(string name, Tensor value) => tensors[$"{i}/{name}"] = value.cpu().contiguous();
            foreach ((string side, UnitStatistics statistics) in new[] { ("a", layer.Correlation.A), ("b", layer.Correlation.B) })
            {
                Keep($"mean_{side}", statistics.Mean);
                Keep($"deviation_{side}", statistics.Deviation);
            }
            Keep("between", layer.Correlation.Between.to(float32));
            Keep("matching", tensor(layer.Matching.Assignment).to(int64));
            Keep("semi", tensor(layer.SemiAtoB.Score));
            Keep("score", tensor(layer.Matching.Score));
            Keep("weight_ab", layer.StitchAtoB[options.Lambda].W.to(float32));
            Keep("weight_ba", layer.StitchBtoA[options.Lambda].W.to(float32));
            Keep("error_ab", tensor(layer.StitchAtoB[options.Lambda].Error));
            Keep("error_ba", tensor(layer.StitchBtoA[options.Lambda].Error));
            Keep("cluster_a", tensor(layer.Spectral.LabelsA).to(int64));
            Keep("cluster_b", tensor(layer.Spectral.LabelsB).to(int64));
            Keep("cluster_affinity", tensor(layer.Spectral.Clusters.Select(c => c.Affinity).ToArray()));
            if (Nodes(layer.Correlation) is var n && (long)n * n <= LargestHeatmap) Keep("affinity", UnitSpectralClustering.Affinity(layer.Correlation).to(float32));
        }
        run.SaveModel(ConvergentLearningRecipe.Maps, tensors, new ConvergentMaps([.. report.Select((l, i) => new ConvergentLayer(l.Layer, layersB[i], l.Correlation.A.Count, l.Correlation.B.Count, l.Correlation.Observations))], options.Lambda));
        AtomicFile.WriteText(context.OutputPath("summary.json"), JsonSerializer.Serialize(report.Select((l, i) => new
        {
            layer = l.Layer,
            layerB = layersB[i],
            unitsA = l.Correlation.A.Count,
            unitsB = l.Correlation.B.Count,
            observations = l.Correlation.Observations,
            deadA = Dead(l.Correlation.A),
            deadB = Dead(l.Correlation.B),
            matchedCorrelation = l.Matching.Mean,
            semiMatching = l.SemiAtoB.Mean,
            semiMatchingBack = l.SemiBtoA.Mean,
            randomPairing = l.RandomPairing,
            uniqueUnits = l.Matching.Unique,
            informationAgreement = l.InformationAgreement,
            bestSingleError = l.StitchAtoB.MeanBestSingle,
            path = l.StitchAtoB.Maps.Select((m, k) => new { lambda = m.Lambda, error = m.MeanError, units = m.MeanNonZeros, errorBack = l.StitchBtoA.Maps[k].MeanError, unitsBack = l.StitchBtoA.Maps[k].MeanNonZeros }),
            codes = l.StitchAtoB.Codes().GroupBy(c => c).OrderBy(g => g.Key).ToDictionary(g => g.Key.ToString().ToLowerInvariant(), g => g.Count()),
            sharedFraction = l.Spectral.SharedFraction,
            clusters = l.Spectral.Clusters.Select(c => new { cluster = c.Index, unitsA = c.UnitsA, unitsB = c.UnitsB, affinity = c.Affinity }),
        }), s_json));
    }

    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNameCaseInsensitive = true };

    private static int[] Dead(UnitStatistics statistics) => [.. Enumerable.Range(0, statistics.Count).Where(i => statistics.Dead[i])];

    private static int Nodes(CrossCorrelation correlation) => correlation.A.Alive.Length + correlation.B.Alive.Length;

    private static string Text(double value) => double.IsFinite(value) ? value.ToString("0.######", CultureInfo.InvariantCulture) : "";

    private static string MatchingCsv(LayerConvergence layer)
    {
        double[] information = layer.Information is { } i ? i.Nats.cpu().contiguous().data<double>().ToArray() : [];
        var text = new StringBuilder("unit_a,unit_b,correlation,best_unit_b,best_correlation,information_unit_b,information_nats,dead,unique\n");
        var unique = layer.Matching.Unique.ToHashSet();
        for (int a = 0; a < layer.Correlation.A.Count; a++)
        {
            static string Unit(int[] assignment, int a) => assignment[a] < 0 ? "" : assignment[a].ToString(CultureInfo.InvariantCulture);
            bool dead = layer.Correlation.A.Dead[a];
            int[]? byInformation = layer.InformationMatching?.Assignment;
            text.Append(CultureInfo.InvariantCulture, $"{a},{Unit(layer.Matching.Assignment, a)},{(layer.Matching.Assignment[a] < 0 ? "" : Text(layer.Matching.Score[a]))},{Unit(layer.SemiAtoB.Assignment, a)},{(dead ? "" : Text(layer.SemiAtoB.Score[a]))},")
                .Append(CultureInfo.InvariantCulture, $"{(byInformation is null ? "" : Unit(byInformation, a))},{(byInformation is null || byInformation[a] < 0 ? "" : Text(information[((long)a * layer.Correlation.B.Count) + byInformation[a]]))},{(dead ? 1 : 0)},{(unique.Contains(a) ? 1 : 0)}\n");
        }
        return text.ToString();
    }

    private static string StitchCsv(LayerConvergence layer)
    {
        var text = new StringBuilder("direction,unit,code,lambda,error,units,sources\n");
        foreach ((string direction, StitchPath path) in new[] { ("a-to-b", layer.StitchAtoB), ("b-to-a", layer.StitchBtoA) })
        {
            UnitCode[] codes = path.Codes();
            foreach (StitchMap map in path.Maps)
            {
                IReadOnlyList<string> sources = Sources(map.W);
                for (int unit = 0; unit < codes.Length; unit++)
                    text.Append(CultureInfo.InvariantCulture, $"{direction},{unit},{codes[unit].ToString().ToLowerInvariant()},{map.Lambda},{Text(map.Error[unit])},{map.NonZeros[unit]},{sources[unit]}\n");
            }
        }
        return text.ToString();
    }

    // The strongest source units of each target unit, with their weights.
    private static IReadOnlyList<string> Sources(Tensor w)
    {
        using DisposeScope scope = NewDisposeScope();
        int shown = (int)Math.Min(NamedSources, w.shape[0]);
        (_, Tensor index) = w.abs().t().topk(shown, 1);
        Tensor value = w.t().gather(1, index);
        long[] units = index.cpu().contiguous().data<long>().ToArray();
        double[] weights = value.to(float64).cpu().contiguous().data<double>().ToArray();
        return [.. Enumerable.Range(0, (int)w.shape[1]).Select(j => string.Join(' ', Enumerable.Range(j * shown, shown).Where(k => weights[k] != 0).Select(k => FormattableString.Invariant($"{units[k]}:{weights[k]:0.###}"))))];
    }

    private static string ClustersCsv(LayerConvergence layer)
    {
        var text = new StringBuilder("network,unit,cluster,hierarchical_cluster\n");
        foreach ((string network, int[] spectral, int[] tree) in new[] { ("a", layer.Spectral.LabelsA, layer.Hierarchical.LabelsA), ("b", layer.Spectral.LabelsB, layer.Hierarchical.LabelsB) })
            for (int unit = 0; unit < spectral.Length; unit++)
                text.Append(CultureInfo.InvariantCulture, $"{network},{unit},{(spectral[unit] < 0 ? "" : spectral[unit])},{(tree[unit] < 0 ? "" : tree[unit])}\n");
        return text.ToString();
    }

    /// <summary>Tables and figures of the kept maps.</summary>
    public static void Show(RunContext context, ConvergentLearningRecipeOptions options)
    {
        using DisposeScope scope = NewDisposeScope();
        var index = SavedMaps(context);
        ConvergentMaps maps = index.Description;
        Dictionary<string, Tensor> tensors = index.Tensors;
        var pairs = new List<IReadOnlyList<string>>();
        var several = new List<IReadOnlyList<string>>();
        var clusters = new List<IReadOnlyList<string>>();
        var points = new List<(string, double[], double[])>();
        for (int i = 0; i < maps.Layers.Count; i++)
        {
            ConvergentLayer layer = maps.Layers[i];
            Tensor Of(string name) => tensors[$"{i}/{name}"];
            long[] assignment = Of("matching").data<long>().ToArray();
            double[] score = Of("score").data<double>().ToArray(), semi = Of("semi").data<double>().ToArray(), error = Of("error_ab").data<double>().ToArray();
            int[] matched = [.. Enumerable.Range(0, assignment.Length).Where(a => assignment[a] >= 0).OrderByDescending(a => score[a])];
            foreach (int a in matched.Take(ShownRows)) pairs.Add([layer.Layer, $"{a}", $"{assignment[a]}", Text(score[a])]);
            points.Add((layer.Layer, [.. matched.Select(a => semi[a])], [.. matched.Select(a => score[a])]));

            IReadOnlyList<string> sources = Sources(Of("weight_ab"));
            foreach (int b in Enumerable.Range(0, error.Length).Where(b => sources[b].Contains(' ') && double.IsFinite(error[b])).OrderBy(b => error[b]).Take(ShownRows)) several.Add([layer.Layer, $"{b}", sources[b], Text(error[b])]);

            long[] clusterA = Of("cluster_a").data<long>().ToArray(), clusterB = Of("cluster_b").data<long>().ToArray();
            double[] affinity = Of("cluster_affinity").data<double>().ToArray();
            long[] labels = [.. clusterA.Concat(clusterB).Where(c => c >= 0).Distinct().Order()];
            static string Units(long[] of, long label)
            {
                int[] units = [.. Enumerable.Range(0, of.Length).Where(u => of[u] == label)];
                return units.Length <= ShownRows ? string.Join(' ', units) : $"{string.Join(' ', units.Take(ShownRows))} ... ({units.Length})";
            }
            foreach ((long label, int k) in labels.Select((l, k) => (l, k)).Take(ShownRows * 2)) clusters.Add([layer.Layer, $"{label}", Units(clusterA, label), Units(clusterB, label), Text(affinity[k])]);

            Heatmaps(context, maps, i, Of, assignment, clusterA, clusterB);
        }
        context.Table("matched", $"Matched units, the {ShownRows} best of each layer; all are in matching_LAYER.csv.", ["layer", "unit of A", "unit of B", "correlation"], pairs);
        context.Table("one-to-many", FormattableString.Invariant($"Units of B that several units of A predict together (lambda {maps.Lambda}): the {ShownRows} best of each layer, sources with their weights; all, and the other direction, are in stitch_LAYER.csv."), ["layer", "unit of B", "units of A : weight", "error"], several);
        context.Table("clusters", "Clusters of units of both networks; affinity is the mean absolute correlation within.", ["layer", "cluster", "units of A", "units of B", "affinity"], clusters);
        context.Figure("matched-semi", "Each unit of A: correlation with its one-to-one partner against that with its best partner. On the diagonal both are the same unit or equally good.",
            Charts.Scatter("One-to-one against best partner", "correlation with the best unit", "correlation with the matched unit", points));
    }

    private static (ConvergentMaps Description, Dictionary<string, Tensor> Tensors) SavedMaps(RunContext context)
    {
        string folder = Path.Combine(context.Folder, "model");
        using JsonDocument index = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "model.json")));
        JsonElement description = index.RootElement.GetProperty(ConvergentLearningRecipe.Maps).EnumerateObject().First(p => p.Name.Equals("description", StringComparison.OrdinalIgnoreCase)).Value;
        return (description.Deserialize<ConvergentMaps>(s_json)!, Safetensors.Read(Path.Combine(folder, $"{ConvergentLearningRecipe.Maps}.safetensors")));
    }

    private static void Heatmaps(RunContext context, ConvergentMaps maps, int i, Func<string, Tensor> of, long[] assignment, long[] clusterA, long[] clusterB)
    {
        ConvergentLayer layer = maps.Layers[i];
        if ((long)layer.UnitsA * layer.UnitsB > LargestHeatmap) return;
        Tensor between = of("between").to(float64);
        long[] matched = [.. assignment.Where(b => b >= 0)], order = [.. matched, .. Enumerable.Range(0, layer.UnitsB).Select(b => (long)b).Except(matched)];
        long[] rows = [.. Enumerable.Range(0, layer.UnitsA).Select(a => (long)a).OrderBy(a => assignment[a] < 0)];
        context.Figure($"natural-{layer.Layer}", $"Correlation between the units of both networks at {layer.Layer}, in their natural order.", Charts.Heatmap($"{layer.Layer}: natural order", Matrix(between), "unit of B", "unit of A"));
        context.Figure($"aligned-{layer.Layer}", $"The same with B's units in the order of the matching; units without a partner come last.",
            Charts.Heatmap($"{layer.Layer}: aligned", Matrix(between.index_select(0, tensor(rows)).index_select(1, tensor(order))), "unit of B, aligned", "unit of A"));
        // Node of each live unit, A's first, sorted by cluster.
        (bool B, long Cluster)[] nodes = [.. clusterA.Where(c => c >= 0).Select(c => (false, c)), .. clusterB.Where(c => c >= 0).Select(c => (true, c))];
        if ((long)nodes.Length * nodes.Length > LargestHeatmap) return;
        long[] sorted = [.. Enumerable.Range(0, nodes.Length).OrderBy(n => nodes[n].Cluster).ThenBy(n => nodes[n].B).Select(n => (long)n)];
        Tensor affinity = of("affinity").to(float64).index_select(0, tensor(sorted)).index_select(1, tensor(sorted));
        context.Figure($"clusters-{layer.Layer}", $"Absolute correlations among the units of both networks at {layer.Layer}, sorted by cluster and within a cluster by network; blocks are shared subspaces.",
            Charts.Heatmap($"{layer.Layer}: clusters", Matrix(affinity), "unit, by cluster", "unit, by cluster"));
    }

    private static double[,] Matrix(Tensor values)
    {
        var matrix = new double[values.shape[0], values.shape[1]];
        Buffer.BlockCopy(values.contiguous().data<double>().ToArray(), 0, matrix, 0, matrix.Length * sizeof(double));
        return matrix;
    }

    /// <summary>New activations of A in the units of B (or of B in those of A), or, of both, whether the correspondence holds.</summary>
    public static void Apply(SavedRun run, ApplyContext context, ConvergentLearningRecipeOptions options)
    {
        using DisposeScope scope = NewDisposeScope();
        using var ungraphed = no_grad();
        ConvergentMaps maps = run.Description<ConvergentMaps>(ConvergentLearningRecipe.Maps);
        Dictionary<string, Tensor> tensors = run.Model(ConvergentLearningRecipe.Maps);
        UserData data = context.Data;
        string? pathA = data.Parts.GetValueOrDefault(ConvergentLearningRecipe.A), pathB = data.Parts.GetValueOrDefault(ConvergentLearningRecipe.B);
        if (pathA is null && pathB is null) pathA = data.Path; // --data alone: activations of A
        string? arch = data.Parts.GetValueOrDefault(ConvergentLearningRecipe.Arch), archB = data.Parts.GetValueOrDefault(ConvergentLearningRecipe.ArchB) ?? arch;
        UserData source = pathA == data.Path ? data with { Path = "" } : data;
        if (pathA is not null && pathB is not null)
        {
            (string, Tensor, Tensor)[] both = data.Path.Length == 0
                ? [.. ConvergentInput.Tables(pathA, pathB, maps.Layers.Count == 1 ? [] : [.. maps.Layers.Select(l => l.Layer)], maps.Layers.Count == 1 ? [] : [.. maps.Layers.Select(l => l.LayerB)]).Select(t => (t.Layer, t.A, t.B))]
                : [.. Zip(ConvergentInput.Activations(pathA, data, [.. maps.Layers.Select(l => l.Layer)], options, context.Device, arch), ConvergentInput.Activations(pathB, data, [.. maps.Layers.Select(l => l.LayerB)], options, context.Device, archB))];
            Recheck(maps, tensors, both, pathA, pathB, context);
            return;
        }
        bool forward = pathA is not null;
        string path = (pathA ?? pathB)!;
        IReadOnlyDictionary<string, Tensor> given = ConvergentInput.Activations(path, source, [.. maps.Layers.Select(l => forward ? l.Layer : l.LayerB)], options, context.Device, forward ? arch : archB);
        Translate(maps, tensors, given, path, forward, context);

        IEnumerable<(string, Tensor, Tensor)> Zip(IReadOnlyDictionary<string, Tensor> a, IReadOnlyDictionary<string, Tensor> b) => maps.Layers.Select(l => (l.Layer, a[l.Layer], b[l.LayerB]));
    }

    private static UnitStatistics Statistics(Dictionary<string, Tensor> tensors, int i, string side, long observations)
    {
        Tensor deviation = tensors[$"{i}/deviation_{side}"];
        return new UnitStatistics(observations, tensors[$"{i}/mean_{side}"], deviation, empty(0), deviation.eq(0).data<bool>().ToArray());
    }

    // The map that a matching is: each unit of the target from its partner alone.
    private static StitchMap Matched(Dictionary<string, Tensor> tensors, int i, ConvergentLayer layer, bool forward)
    {
        Tensor w = zeros([layer.UnitsA, layer.UnitsB], float64);
        long[] assignment = tensors[$"{i}/matching"].data<long>().ToArray();
        for (int a = 0; a < assignment.Length; a++)
            if (assignment[a] >= 0) w[a, assignment[a]] = 1;
        return new StitchMap(double.NaN, forward ? w : w.t(), [], [], true);
    }

    private static StitchMap Sparse(Dictionary<string, Tensor> tensors, int i, double lambda, bool forward) => new(lambda, tensors[forward ? $"{i}/weight_ab" : $"{i}/weight_ba"].to(float64), [], [], true);

    private static void Translate(ConvergentMaps maps, Dictionary<string, Tensor> tensors, IReadOnlyDictionary<string, Tensor> given, string path, bool forward, ApplyContext context)
    {
        var translated = new Dictionary<string, Tensor>();
        for (int i = 0; i < maps.Layers.Count; i++)
        {
            ConvergentLayer layer = maps.Layers[i];
            string name = forward ? layer.Layer : layer.LayerB;
            Tensor? activations = given.GetValueOrDefault(name) ?? (maps.Layers.Count == 1 && given.Count == 1 ? given.Values.Single() : null);
            if (activations is null) continue;
            int units = forward ? layer.UnitsA : layer.UnitsB;
            Tensor rows = ActivationRecorder.Flatten(activations.cpu());
            if (rows.shape[1] != units) throw new BadInputException($"{path}: '{name}' has {rows.shape[1]} units; the run compared {units}.");
            (UnitStatistics from, UnitStatistics to) = (Statistics(tensors, i, forward ? "a" : "b", layer.Observations), Statistics(tensors, i, forward ? "b" : "a", layer.Observations));
            string result = forward ? layer.LayerB : layer.Layer;
            translated[result] = Shaped(Sparse(tensors, i, maps.Lambda, forward).Translate(rows, from, to), activations);
            translated[$"{result}.matched"] = Shaped(Matched(tensors, i, layer, forward).Translate(rows, from, to), activations);
        }
        if (translated.Count == 0) throw new BadInputException($"{path} has {string.Join(", ", given.Keys)}, none of the layers of the run: {string.Join(", ", maps.Layers.Select(l => forward ? l.Layer : l.LayerB))}.");
        string extension = Path.GetExtension(context.OutPath).ToLowerInvariant();
        if (extension is ".csv" or ".npy" && translated.Count > 2) throw new BadInputException($"{context.OutPath} holds one layer; there are {translated.Count / 2}: give an .npz or .safetensors file, or a folder.");
        string written = context.OutPath;
        switch (extension)
        {
            case ".npz": Npz.Write(written, translated); break;
            case ".safetensors": Safetensors.Write(written, translated); break;
            case ".npy": Npy.Write(written, translated.Values.First()); break;
            case ".csv": AtomicFile.WriteText(written, Csv(translated.Values.First())); break;
            case "":
                Directory.CreateDirectory(written);
                Npz.Write(Path.Combine(written, "translated.npz"), translated);
                written = Path.Combine(written, "translated.npz");
                break;
            default: throw new BadInputException($"Activations are written as .npz, .safetensors, .npy, .csv or into a folder, not as {context.OutPath}.");
        }
        context.Report(FormattableString.Invariant($"Activations of {(forward ? "A in the units of B" : "B in the units of A")} at {string.Join(", ", translated.Keys.Where(k => !k.EndsWith(".matched", StringComparison.Ordinal)))}, by the sparse map (lambda {maps.Lambda}) and, as LAYER.matched, by the matching alone: {written}."));
    }

    // [n * positions, units] in the layout that the source had.
    private static Tensor Shaped(Tensor rows, Tensor like) => like.dim() switch
    {
        4 => rows.view(like.shape[0], like.shape[2], like.shape[3], -1).permute(0, 3, 1, 2).contiguous(),
        3 => rows.view(like.shape[0], like.shape[1], -1),
        _ => rows,
    };

    private static string Csv(Tensor values)
    {
        Tensor rows = ActivationRecorder.Flatten(values);
        int units = (int)rows.shape[1];
        double[] flat = rows.to(float64).contiguous().data<double>().ToArray();
        var text = new StringBuilder().AppendJoin(',', Enumerable.Range(0, units).Select(u => $"unit_{u}")).Append('\n');
        for (int row = 0; row < rows.shape[0]; row++) text.AppendJoin(',', Enumerable.Range(row * units, units).Select(k => flat[k].ToString("G7", CultureInfo.InvariantCulture))).Append('\n');
        return text.ToString();
    }

    private static void Recheck(ConvergentMaps maps, Dictionary<string, Tensor> tensors, (string Layer, Tensor A, Tensor B)[] given, string pathA, string pathB, ApplyContext context)
    {
        var text = new StringBuilder("layer,unit_a,unit_b,correlation,correlation_then,best_unit_b,best_correlation\n");
        foreach ((string name, Tensor a, Tensor b) in given)
        {
            int i = maps.Layers.Count == 1 ? 0 : maps.Layers.Select(l => l.Layer).ToList().IndexOf(name);
            ConvergentLayer layer = maps.Layers[i];
            CrossCorrelation correlation = BadInput.Refusing($"{pathA} and {pathB}", () => CrossCorrelation.Of(a.cpu(), b.cpu()));
            if (correlation.A.Count != layer.UnitsA || correlation.B.Count != layer.UnitsB)
                throw new BadInputException($"{pathA} and {pathB}: '{name}' has {correlation.A.Count} and {correlation.B.Count} units; the run compared {layer.UnitsA} and {layer.UnitsB}.");
            MatchingResult semi = BadInput.Refusing($"{pathA} and {pathB}", () => UnitMatching.SemiMatching(correlation)), anew = UnitMatching.Bipartite(correlation);
            long[] assignment = tensors[$"{i}/matching"].data<long>().ToArray();
            double[] then = tensors[$"{i}/score"].data<double>().ToArray();
            double[] now = [.. assignment.Select((partner, unit) => partner < 0 ? double.NaN : correlation.Between[unit, partner].item<double>())];
            for (int unit = 0; unit < assignment.Length; unit++)
                text.Append(CultureInfo.InvariantCulture, $"{layer.Layer},{unit},{(assignment[unit] < 0 ? "" : assignment[unit])},{Text(now[unit])},{(assignment[unit] < 0 ? "" : Text(then[unit]))},{(semi.Assignment[unit] < 0 ? "" : semi.Assignment[unit])},{(semi.Assignment[unit] < 0 ? "" : Text(semi.Score[unit]))}\n");
            double Error(bool forward)
            {
                (Tensor x, Tensor y) = (ActivationRecorder.Flatten(forward ? a : b).cpu(), ActivationRecorder.Flatten(forward ? b : a).cpu().to(float64));
                (UnitStatistics from, UnitStatistics to) = (Statistics(tensors, i, forward ? "a" : "b", layer.Observations), Statistics(tensors, i, forward ? "b" : "a", layer.Observations));
                Tensor residual = y - Sparse(tensors, i, maps.Lambda, forward).Translate(x.to(float64), from, to), centred = y - y.mean([0L], keepdim: true), variance = centred.square().mean([0L]);
                Tensor live = variance > 0;
                return (residual.square().mean([0L]).masked_select(live) / variance.masked_select(live)).mean().item<double>();
            }
            context.Report(FormattableString.Invariant($"{layer.Layer}: the run's pairs correlate {now.Where(double.IsFinite).Average():0.000} on these data ({then.Where((_, u) => assignment[u] >= 0).Average():0.000} then; matched anew {anew.Mean:0.000}, {assignment.Where((p, u) => p >= 0 && anew.Assignment[u] == p).Count()} of {assignment.Count(p => p >= 0)} the same); sparse maps have the error {Error(true):0.000} from A to B and {Error(false):0.000} back."));
        }
        string file = Path.HasExtension(context.OutPath) ? context.OutPath : Path.Combine(context.OutPath, "correspondence.csv");
        AtomicFile.WriteText(file, text.ToString());
        context.Report($"Each unit's correlation with its partner, then and now: {file}");
    }
}
