using System.Globalization;
using Priori.Data;
using Priori.Metrics;
using Priori.Numerics;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using Priori.Similarity;

namespace Priori.Recipes.Similarity;

/// <summary>How the spaces of two embedding models are brought together, kept for <c>priori apply</c>.</summary>
/// <param name="Similarity">What a coordinate of a relative representation is.</param>
/// <param name="Space">What is done to each space first.</param>
/// <param name="Translation">What translates the new model's embeddings into the old one's space: anchors or procrustes.</param>
/// <param name="Ridge">Ridge of the translation through the anchors.</param>
/// <param name="Anchors">The anchors: rows of the parallel embeddings, and their hash.</param>
/// <param name="AnchorIds">Names of the anchors, in order.</param>
public sealed record EmbeddingTranslationModel(RelativeSimilarity Similarity, SpaceNormalization Space, string Translation, double Ridge, string Anchors, IReadOnlyList<string> AnchorIds);

/// <summary>Embeddings of the same things by an old and a new model.</summary>
internal sealed record ParallelEmbeddings(Tensor Old, Tensor New, IReadOnlyList<string> Ids, string Description)
{
    /// <summary>Reads both files and pairs their rows, by id where both have ids, by order otherwise.</summary>
    public static ParallelEmbeddings Read(string oldPath, string newPath, string? matrix, Action<string> note)
    {
        (FeatureFile a, Tensor old) = ReadOne(oldPath, matrix);
        (FeatureFile b, Tensor fresh) = ReadOne(newPath, matrix);
        string Widths() => $"{Path.GetFileName(oldPath)} ({old.shape[1]} numbers a row) and {Path.GetFileName(newPath)} ({fresh.shape[1]})";
        if (a.Ids is { } left && b.Ids is { } right)
        {
            var at = right.Select((id, row) => (id, row)).ToDictionary(p => p.id, p => (long)p.row);
            long[] rows = [.. Enumerable.Range(0, left.Count).Where(i => at.ContainsKey(left[i])).Select(i => (long)i)];
            if (rows.Length < 2) throw new BadInputException($"{oldPath} and {newPath} have {rows.Length} ids in common; parallel rows are needed, the same things embedded by both models.");
            if (rows.Length < a.Count || rows.Length < b.Count) note($"{rows.Length} ids are in both files; {a.Count - rows.Length} of the old and {b.Count - rows.Length} of the new file have no partner and are left out.");
            string[] ids = [.. rows.Select(i => left[(int)i])];
            return new ParallelEmbeddings(old.index_select(0, tensor(rows)), fresh.index_select(0, tensor(ids.Select(id => at[id]).ToArray())), ids, $"{Widths()}: {rows.Length} parallel rows by id");
        }
        if (a.Count != b.Count) throw new BadInputException($"{oldPath} has {a.Count} rows and {newPath} {b.Count}: without ids in both files rows are paired by their order, so there must be as many.");
        if (a.Ids is not null || b.Ids is not null) note("Only one file names its rows, so rows are paired by their order.");
        return new ParallelEmbeddings(old, fresh, a.Ids ?? b.Ids ?? [.. Enumerable.Range(0, (int)a.Count).Select(i => i.ToString(CultureInfo.InvariantCulture))], $"{Widths()}: {a.Count} parallel rows by order");
    }

    /// <summary>The one matrix of a file of embeddings.</summary>
    public static (FeatureFile File, Tensor Rows) ReadOne(string path, string? matrix)
    {
        FeatureFile file = FeatureFile.Read(path);
        string name = string.IsNullOrEmpty(matrix)
            ? file.Features.Count == 1 ? file.Features.Keys.First() : throw new BadInputException($"{path} holds several matrices ({string.Join(", ", file.Features.Keys)}); say which one: --set matrix=NAME.")
            : file.Features.ContainsKey(matrix) ? matrix : throw new BadInputException($"{path} has no matrix '{matrix}'; it has: {string.Join(", ", file.Features.Keys)}.");
        Tensor rows = file.Features[name];
        Tensor lengths = rows.norm(1);
        Tensor usable = lengths.isfinite() & lengths.gt(0);
        if (!usable.all().item<bool>())
        {
            long row = usable.to(ScalarType.Int32).argmin().item<long>();
            string what = lengths[row].isfinite().item<bool>() ? "has length zero, so it has no direction" : "holds a missing or infinite number";
            throw new BadInputException($"{path}: embedding {row}{(file.Ids is null ? "" : $" (id {file.Ids[(int)row]})")} {what}; leave it out.");
        }
        return (file, rows);
    }

    /// <summary>Rows of the anchors that a file names by id (or by row number from 0 where the embeddings have no ids).</summary>
    public long[] NamedAnchors(string path, Action<string> note)
    {
        Table table = Table.Read(path);
        string column = table.Columns.FirstOrDefault(c => c.ToLowerInvariant() is "id" or "ids" or "anchor" or "anchors" or "row") ?? table.Columns[0];
        var at = Ids.Select((id, row) => (id, row)).ToDictionary(p => p.id, p => (long)p.row);
        List<long> rows = [];
        for (int i = 0; i < table.RowCount; i++)
        {
            string id = table[column][i] ?? throw new BadInputException($"{path}: row {i + 1} has no '{column}'.");
            rows.Add(at.TryGetValue(id, out long row) ? row : throw new BadInputException($"{path}: anchor '{id}' (row {i + 1}) is not among the parallel rows."));
        }
        if (rows.Count == 0) throw new BadInputException($"{path} names no anchor.");
        string[] twice = [.. rows.GroupBy(r => r).Where(g => g.Count() > 1).Select(g => Ids[(int)g.Key])];
        if (twice.Length > 0) note($"Warning: {twice.Length} anchors are named more than once ({string.Join(", ", twice.Take(5))}{(twice.Length > 5 ? ", ..." : "")}); each is used once.");
        return [.. rows.Distinct()];
    }
}

/// <summary>Measures of searching the rows of one space with queries of another; row i of both is the same thing.</summary>
internal static class SpaceMeasures
{
    /// <summary>Keeps recall, rank, neighbours, cosine and CKA as metrics.</summary>
    public static void Record(ArmRun run, Tensor index, Tensor queries, int k)
    {
        k = (int)Math.Min(k, index.shape[0]);
        int[] ranks = LatentSpaceComparison.Ranks(index, queries);
        run.Metric("mrr", RetrievalMetrics.Mrr(ranks));
        run.Metric("recall@1", RetrievalMetrics.RecallAtN(ranks, 1));
        run.Metric($"recall@{k}", RetrievalMetrics.RecallAtN(ranks, k));
        run.Metric("jaccard", LatentSpaceComparison.Jaccard(index, queries, k));
        run.Metric("cosine", LatentSpaceComparison.Cosine(index, queries));
        run.Metric("cka", LatentSpaceComparison.Cka(index, queries));
    }

    /// <summary>Mean share of the k nearest rows that two searches have in common.</summary>
    public static double Shared(Tensor one, Tensor two) => one.unsqueeze(2).eq(two.unsqueeze(1)).sum([1, 2]).to(float64).mean().item<double>() / one.shape[1];
}

/// <summary>Whether an index of old embeddings can be kept when the embedding model is replaced.</summary>
internal static class EmbeddingMigration
{
    public const string Relative = "relative", Absolute = "absolute", Orthogonal = "procrustes", Translated = "anchor translation", Rebuilt = "re-embedded", ModelName = "translation";

    public static void Run(RelativeRepresentationsRecipeOptions options, RunContext context, UserData data)
    {
        ParallelEmbeddings pairs = ParallelEmbeddings.Read(data.Part("a"), data.Part("b"), options.Matrix, context.Note);
        long n = pairs.Old.shape[0];
        long[]? named = data.Parts.TryGetValue("anchors", out string? file) ? pairs.NamedAnchors(file, context.Note) : null;
        int k = named?.Length ?? options.Anchors;
        if (k >= n) throw new BadInputException($"There are {n} parallel rows and {k} anchors; rows must be left to search with: {(named is null ? "--set anchors=N" : "name")} at most {n - 1}.");
        if (options.Strategy == AnchorStrategy.Stratified) throw new BadInputException("Embeddings have no classes, so anchors cannot be stratified: --set strategy=random, farthest-point or k-means.");
        context.UsedData($"{pairs.Description}, {k} anchors{(named is null ? "" : " from a file")}");
        bool sameWidth = pairs.Old.shape[1] == pairs.New.shape[1];
        if (!sameWidth) context.Note("The embeddings have different widths, so vectors of one model cannot be compared with those of the other as they are.");
        if (k < 2 * pairs.Old.shape[1]) context.Note($"There are fewer than twice as many anchors ({k}) as numbers in an old embedding ({pairs.Old.shape[1]}): translation through anchors amplifies noise there; more anchors help.");

        string[] arms = [Relative, .. sameWidth ? [Absolute] : Array.Empty<string>(), Orthogonal, Translated, Rebuilt];
        var results = arms.ToDictionary(arm => arm, arm => new List<ArmResult>());
        foreach (int seed in context.Seeds)
        {
            AnchorSet anchors = named is null ? AnchorSet.Select(functional.normalize(pairs.Old, dim: 1), options.Strategy, k, Runtime.Seeds.Derive(seed, 1)) : AnchorSet.Provided(pairs.Old, named);
            (Tensor oldRows, Tensor newRows, Tensor oldAnchors, Tensor newAnchors, int held) = Split(pairs, anchors, options.HeldOut, seed);
            int neighbours = Math.Min(options.Neighbours, held);
            foreach (string arm in arms)
            {
                results[arm].Add(context.Arm(arm, seed, run =>
                {
                    (Tensor index, Tensor queries) = arm switch
                    {
                        Relative => (RelativeProjection.Project(oldRows, oldAnchors, options.Similarity, options.Space), RelativeProjection.Project(newRows, newAnchors, options.Similarity, options.Space)),
                        Orthogonal => (oldRows, Map(newAnchors, oldAnchors).Apply(newRows)),
                        Translated => (oldRows, AnchorTranslation.Fit(newAnchors, oldAnchors, options.Ridge).Apply(newRows)),
                        Rebuilt => (newRows, newRows),
                        _ => (oldRows, newRows),
                    };
                    run.Metric("held out", held);
                    // What a rebuilt index would return, and how much of it the old one returns.
                    Tensor wanted = LatentSpaceComparison.Nearest(newRows, newRows, neighbours);
                    run.Metric("kept", SpaceMeasures.Shared(wanted, LatentSpaceComparison.Nearest(index, queries, neighbours)));
                    if (arm == Rebuilt) run.Metric("models agree", SpaceMeasures.Shared(wanted, LatentSpaceComparison.Nearest(oldRows, oldRows, neighbours)));
                    else SpaceMeasures.Record(run, index, queries, neighbours);
                }));
            }
        }
        Report(options, context, results);

        AnchorSet used = named is null ? AnchorSet.Select(functional.normalize(pairs.Old, dim: 1), options.Strategy, k, Runtime.Seeds.Derive(context.Seeds[0], 1)) : AnchorSet.Provided(pairs.Old, named);
        // New rows are translated the way that finds more; where both find as many, the one that comes nearer.
        (double Mrr, double Cosine) Quality(string arm) => (results[arm].Average(r => r["mrr"]), results[arm].Average(r => r["cosine"]));
        Keep(options, context, pairs, used, Quality(Translated).CompareTo(Quality(Orthogonal)) > 0 ? "anchors" : "procrustes");
        Picture(options, context, pairs, used, sameWidth);
    }

    /// <summary>The orthogonal map with scale and shift, fitted to the anchors.</summary>
    public static Procrustes Map(Tensor source, Tensor target) => Procrustes.Fit(source, target, scaled: true, centered: true);

    private static (Tensor Old, Tensor New, Tensor OldAnchors, Tensor NewAnchors, int Held) Split(ParallelEmbeddings pairs, AnchorSet anchors, int most, int seed)
    {
        var taken = anchors.Indices.ToHashSet();
        long[] rest = [.. Enumerable.Range(0, (int)pairs.Old.shape[0]).Select(i => (long)i).Where(i => !taken.Contains(i))];
        if (rest.Length > most)
        {
            SplitMix64.For(seed, 2).Shuffle(rest.AsSpan());
            rest = rest[..most];
            Array.Sort(rest);
        }
        Tensor rows = tensor(rest);
        return (pairs.Old.index_select(0, rows), pairs.New.index_select(0, rows), anchors.TakeParallel(pairs.Old), anchors.TakeParallel(pairs.New), rest.Length);
    }

    private static void Report(RelativeRepresentationsRecipeOptions options, RunContext context, Dictionary<string, List<ArmResult>> results)
    {
        int held = (int)results[Relative][0]["held out"], k = Math.Min(options.Neighbours, held);
        string[] metrics = ["mrr", "recall@1", $"recall@{k}", "kept", "jaccard", "cosine", "cka"];
        string Cell(string arm, string metric) => results[arm][0].Metrics.ContainsKey(metric) ? Numbers.MeanAndDeviation(results[arm], metric) : "";
        context.Table("search", $"New queries against the index of old embeddings, {held} held-out rows, {context.Seeds.Count} draws of anchors. MRR and recall: where a query finds its own row. Kept: share of the {k} rows a rebuilt index would return that are returned. Jaccard, cosine and CKA compare the spaces.",
            ["way", .. metrics], [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. metrics.Select(m => Cell(r.Key, m))])]);
        Csv.Write(context.OutputPath("similarity.csv"), ["way", "seed", .. metrics], results.SelectMany(r => r.Value.Select(a => (IReadOnlyList<string>)[r.Key, Numbers.Text(a.Seed, "F0"), .. metrics.Select(m => a.Metrics.TryGetValue(m, out double v) ? Numbers.Text(v, "G6") : "")])));
        context.Figure("search", $"Mean reciprocal rank of a new query's own row in the old index, and share of a rebuilt index's {k} answers that are returned; a dot is a draw of anchors.",
            Charts.GroupedBars("New queries, old index", "share", [.. results.Keys.Where(a => a != Rebuilt)],
                [("MRR", [.. results.Where(r => r.Key != Rebuilt).Select(r => (IReadOnlyList<double>)[.. r.Value.Select(a => a["mrr"])])]), ("answers kept", [.. results.Where(r => r.Key != Rebuilt).Select(r => (IReadOnlyList<double>)[.. r.Value.Select(a => a["kept"])])])]));

        double Mean(string arm, string metric) => results[arm].Average(r => r[metric]);
        string Percent(double value) => Numbers.Text(value, "P1");
        string Way(string arm) => $"{Percent(Mean(arm, "recall@1"))} of new queries find their own old row first (MRR {Numbers.Text(Mean(arm, "mrr"), "F3")}) and {Percent(Mean(arm, "kept"))} of the {k} answers of a rebuilt index are kept";
        string[] ways = [.. results.Keys.Where(a => a is not (Absolute or Rebuilt))];
        string best = ways.MaxBy(a => Mean(a, "mrr"))!;
        string absolute = results.ContainsKey(Absolute) ? $"; as they are, MRR {Numbers.Text(Mean(Absolute, "mrr"), "F3")}" : "";
        double agree = Mean(Rebuilt, "models agree");
        string verdict = Mean(Relative, "mrr") >= options.KeepMrr
            ? $"Keep the old index, searched in relative space: through {options.Similarity.ToString().ToLowerInvariant()} similarities to the anchors {Way(Relative)}{absolute}{(best == Relative ? "" : $" ({best} reaches MRR {Numbers.Text(Mean(best, "mrr"), "F3")})")}."
            : Mean(best, "mrr") >= options.KeepMrr
                ? $"Keep the old index, but translate new queries by {best} rather than search in relative space: {Way(best)}; in relative space MRR {Numbers.Text(Mean(Relative, "mrr"), "F3")}{absolute}."
                : $"Re-embed the index: the best way to keep it is {best}, where only {Way(best)}; in relative space MRR {Numbers.Text(Mean(Relative, "mrr"), "F3")}{absolute} (kept from MRR {Numbers.Text(options.KeepMrr, "0.##")} on).";
        context.Note(verdict);
        context.Note($"On their own, the two models share {Percent(agree)} of their {k} nearest neighbours: no way of keeping the old vectors can be expected to return much more of what a rebuilt index returns.");
    }

    private static void Keep(RelativeRepresentationsRecipeOptions options, RunContext context, ParallelEmbeddings pairs, AnchorSet anchors, string translation)
    {
        AtomicFile.WriteText(context.OutputPath("anchors.json"), anchors.ToJson());
        context.SaveModel(ModelName, new Dictionary<string, Tensor> { ["anchors.old"] = anchors.TakeParallel(pairs.Old).contiguous(), ["anchors.new"] = anchors.TakeParallel(pairs.New).contiguous() },
            new EmbeddingTranslationModel(options.Similarity, options.Space, translation, options.Ridge, anchors.ToJson(), [.. anchors.Indices.Select(i => pairs.Ids[(int)i])]));
    }

    // Both models' rows in two dimensions: absolute and relative, each on the principal components of the old model's.
    private static void Picture(RelativeRepresentationsRecipeOptions options, RunContext context, ParallelEmbeddings pairs, AnchorSet anchors, bool sameWidth)
    {
        long shown = Math.Min(400, pairs.Old.shape[0]);
        void Draw(string name, Tensor old, Tensor fresh)
        {
            if (old.shape[0] < 2 || old.shape[1] < 2) return;
            Pca plane = Pca.Fit(old, 2);
            (string, double[], double[]) Points(string label, Tensor rows)
            {
                Tensor p = plane.Transform(rows).to(float64);
                return (label, [.. p.select(1, 0).contiguous().data<double>()], [.. p.select(1, 1).contiguous().data<double>()]);
            }
            context.Figure($"space-{name}", $"The same things embedded by both models, {name}: first two principal components of the old model's.",
                Charts.Scatter($"Old and new embeddings, {name}", "first component", "second component", [Points("old", old), Points("new", fresh)]), 720, 560);
        }
        Tensor a = pairs.Old.narrow(0, 0, shown), b = pairs.New.narrow(0, 0, shown);
        if (sameWidth) Draw("absolute", functional.normalize(a, dim: 1), functional.normalize(b, dim: 1));
        Draw("relative", RelativeProjection.Project(a, anchors.TakeParallel(pairs.Old), options.Similarity, options.Space), RelativeProjection.Project(b, anchors.TakeParallel(pairs.New), options.Similarity, options.Space));
    }

    /// <summary>Writes relative and translated embeddings of new rows.</summary>
    public static void Apply(SavedRun run, ApplyContext context)
    {
        var model = run.Description<EmbeddingTranslationModel>(ModelName);
        Dictionary<string, Tensor> saved = run.Model(ModelName);
        bool old = context.Data.Path.Length == 0;
        string path = old ? context.Data.Parts.TryGetValue("a", out string? given) ? given : context.Data.Part("b") : context.DataPath;
        old &= context.Data.Parts.ContainsKey("a");
        (FeatureFile file, Tensor rows) = ParallelEmbeddings.ReadOne(path, run.Options<RelativeRepresentationsRecipeOptions>().Matrix);
        Tensor own = saved[old ? "anchors.old" : "anchors.new"];
        if (rows.shape[1] != own.shape[1]) throw new BadInputException($"{path} has {rows.shape[1]} numbers a row; the {(old ? "old" : "new")} model's embeddings have {own.shape[1]}.{(!old && rows.shape[1] == saved["anchors.old"].shape[1] ? " Give rows of the old model with --data.a." : "")}");
        var written = new Dictionary<string, Tensor> { ["relative"] = RelativeProjection.Project(rows, own, model.Similarity, model.Space) };
        if (!old) written["translated"] = model.Translation == "procrustes" ? Map(own, saved["anchors.old"]).Apply(rows) : AnchorTranslation.Fit(own, saved["anchors.old"], model.Ridge).Apply(rows);
        EmbeddingFiles.Write(context.OutPath, file.Ids, written, out string output);
        context.Report(old
            ? $"{file.Count} rows of the old model: relative to {own.shape[0]} anchors in {output}."
            : $"{file.Count} rows of the new model: relative to {own.shape[0]} anchors, and translated into the old model's space ({model.Translation}), in {output}.");
    }
}

/// <summary>Matrices with the names of their rows, by the ending of the file.</summary>
internal static class EmbeddingFiles
{
    public static void Write(string path, IReadOnlyList<string>? ids, Dictionary<string, Tensor> matrices, out string written)
    {
        if (!Path.HasExtension(path))
        {
            Directory.CreateDirectory(path);
            path = Path.Combine(path, "embeddings.npz");
        }
        written = path;
        switch (Path.GetExtension(path).ToLowerInvariant())
        {
            case ".csv":
                float[][] values = [.. matrices.Values.Select(m => m.to(float32).cpu().contiguous().data<float>().ToArray())];
                int[] widths = [.. matrices.Values.Select(m => (int)m.shape[1])];
                Csv.Write(path, ["id", .. matrices.SelectMany(m => Enumerable.Range(0, (int)m.Value.shape[1]).Select(i => $"{m.Key}_{i}"))],
                    Enumerable.Range(0, (int)matrices.Values.First().shape[0]).Select(row => (IReadOnlyList<string>)[ids?[row] ?? row.ToString(CultureInfo.InvariantCulture), .. values.SelectMany((v, m) => Enumerable.Range(row * widths[m], widths[m]).Select(i => Numbers.Text(v[i], "G7")))]));
                break;
            case ".npz" or ".safetensors":
                var arrays = new Dictionary<string, Tensor>(matrices);
                if (ids is not null)
                {
                    if (ids.All(id => long.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out _))) arrays["ids"] = tensor(ids.Select(id => long.Parse(id, CultureInfo.InvariantCulture)).ToArray());
                    else AtomicFile.WriteText(path + ".ids.txt", string.Join('\n', ids) + "\n"); // arrays hold no text
                }
                if (path.EndsWith(".npz", StringComparison.OrdinalIgnoreCase)) Npz.Write(path, arrays);
                else Safetensors.Write(path, arrays);
                break;
            default:
                throw new BadInputException($"Embeddings are written as .csv, .npz or .safetensors, not as {path}.");
        }
    }
}
