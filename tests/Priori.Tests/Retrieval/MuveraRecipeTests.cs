using Priori.Data;
using Priori.Recipes.Retrieval;
using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Tests.Retrieval;

public sealed class MuveraRecipeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-muvera-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static readonly Dictionary<string, string> NoRoles = [];

    private (RunResult Result, string Folder) Run(MuveraRecipeOptions options, string? data, Budget budget = Budget.Smoke)
    {
        var recipe = new MuveraRecipe();
        return RecipeRunner.Run(recipe, new RunRequest
        {
            Budget = budget, Options = options, Seeds = [0], Data = data == null ? null : new UserData(data, NoRoles), Root = Path.Combine(_folder, "runs"), DataFolder = Path.Combine(_folder, "none"),
        }, new SilentObserver());
    }

    private string Apply(string run, string data)
    {
        var output = Path.Combine(_folder, Guid.NewGuid().ToString("N"));
        new MuveraRecipe().Apply(SavedRun.Open(run), new ApplyContext(new UserData(data, NoRoles), output, CPU, _ => { }));
        return output;
    }

    private string Write(string name, string text)
    {
        var path = Path.Combine(_folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    private static MuveraRecipeOptions Tiny => new MuveraRecipe().Defaults(Budget.Smoke) with { Documents = 80, Queries = 10, Dimension = 16, Concepts = 40, Repetitions = 3, Centers = 16 };

    [Fact]
    public void The_smoke_run_compares_measures_and_leaves_an_index()
    {
        var (result, run) = Run(Tiny, null);
        Assert.Contains("80 documents", result.Data, StringComparison.Ordinal);
        Assert.Equal(15, result.Arms.Count);
        Assert.All(result.Arms.Where(arm => arm.Metrics.ContainsKey("recall100")), arm => Assert.InRange(arm["recall100"], 0, 1));
        Assert.All(result.Arms.Where(arm => arm.Arm.StartsWith("FDE", StringComparison.Ordinal)), arm => Assert.Equal(1, arm["recall100"])); // 80 documents: all are candidates
        Assert.Equal(1, result.Arms.Single(arm => arm.Arm == "rerank")["agreement"]);
        Assert.All(result.Claims, claim => Assert.Equal(Verdict.NotJudged, claim.Verdict));
        Assert.All(result.Claims, claim => Assert.True(double.IsFinite(claim.Measured)));
        Assert.True(File.Exists(Path.Combine(run, "figures", "recall-candidates.png")));
        Assert.True(File.Exists(Path.Combine(run, "figures", "recall-dimension.png")));

        var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(80, 10, 16, 40));
        var queries = Path.Combine(_folder, "queries.npz");
        Npz.Write(queries, new Dictionary<string, Tensor> { ["vectors"] = corpus.Queries.Vectors, ["offsets"] = tensor(corpus.Queries.Offsets) });
        var output = Apply(run, queries);
        var lines = File.ReadAllLines(Path.Combine(output, "run.trec"));
        Assert.Equal(100, lines.Length);
        Assert.Matches(@"^0 Q0 \d+ 1 [\d.]+ muvera$", lines[0]);
        Assert.Equal(10, File.ReadAllLines(Path.Combine(output, "results.jsonl")).Length);
        Assert.True(corpus.Sources.Zip(lines.Where((_, i) => i % 10 == 0)).Count(pair => pair.Second.Split(' ')[2] == $"{pair.First}") >= 8); // mostly the documents that the queries were made from
        Assert.Contains("token vectors", Assert.Throws<BadInputException>(() => Apply(run, Write("q.jsonl", "{\"text\": \"a b\"}"))).Message, StringComparison.Ordinal);
        Npz.Write(queries, new Dictionary<string, Tensor> { ["vectors"] = ones(2, 5), ["offsets"] = tensor(new long[] { 0, 2 }) });
        Assert.Contains("[2, 5]", Assert.Throws<BadInputException>(() => Apply(run, queries)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Own_texts_with_queries_and_judgments_are_indexed_and_searched()
    {
        string[] words = ["wing", "lift", "drag", "flow", "heat", "slab", "cooling", "jet", "shock", "plate"];
        var random = new SplitMix64(5);
        string Text() => string.Join(' ', Enumerable.Range(0, 12).Select(_ => words[random.Next(10)]));
        var texts = Enumerable.Range(0, 40).Select(_ => Text()).ToArray();
        var data = Path.GetDirectoryName(Write("texts/docs.jsonl", string.Join('\n', texts.Select((text, i) => $"{{\"id\": \"d{i}\", \"text\": \"{text}\"}}"))))!;
        Write("texts/queries.csv", "id,text\n" + string.Join('\n', texts.Take(5).Select((text, i) => $"q{i},{text}")));
        Write("texts/qrels.txt", string.Join('\n', Enumerable.Range(0, 5).Select(i => $"q{i} 0 d{i} 1")));
        var (result, run) = Run(Tiny with { Search = Priori.Retrieval.MuveraSearch.ProductQuantized }, data);
        Assert.Contains("40 texts", result.Data, StringComparison.Ordinal);
        Assert.Equal(1, result.Arms.Single()["judged recall100"]);
        Assert.Equal(1, result.Arms.Single()["judged mrr"]); // a text is its own best answer
        Assert.Contains(result.Tables, table => table.Name == "tune");
        Assert.Equal(50, File.ReadAllLines(Path.Combine(run, "outputs", "run.trec")).Length);
        var output = Apply(run, Path.Combine(data, "queries.csv"));
        Assert.Equal(File.ReadAllText(Path.Combine(run, "outputs", "run.trec")), File.ReadAllText(Path.Combine(output, "run.trec")));
        Assert.Contains("holds token vectors", Assert.Throws<BadInputException>(() => Apply(run, Write("v.csv", "id,x\na,1\n"))).Message, StringComparison.Ordinal);
        Assert.Contains("vocabulary", Assert.Throws<BadInputException>(() => Apply(run, Write("u.jsonl", "{\"text\": \"zzz\"}"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Own_token_vectors_without_queries_ask_for_themselves()
    {
        var corpus = ConceptCorpus.Generate(new ConceptCorpusOptions(50, 5, 16, 40));
        var rows = Enumerable.Range(0, 50).SelectMany(i => Enumerable.Range(0, (int)corpus.Documents[i].shape[0]).Select(t => $"doc{i},{string.Join(',', corpus.Documents[i][t].data<float>().Select(x => x.ToString(System.Globalization.CultureInfo.InvariantCulture)))}"));
        var (result, _) = Run(Tiny, Write("tokens.csv", $"doc_id,{string.Join(',', Enumerable.Range(0, 16).Select(j => $"vec_{j}"))}\n{string.Join('\n', rows)}"));
        Assert.Contains("50 documents", result.Data, StringComparison.Ordinal);
        Assert.Contains(result.Notes, note => note.Contains("no queries", StringComparison.Ordinal));
        Assert.Equal(1, result.Arms.Single()["recall50"]);
    }

    [Fact]
    public void Bad_input_is_refused_in_a_sentence()
    {
        string Message(string path) => Assert.ThrowsAny<Exception>(() => Run(Tiny, path)) is var e and (BadInputException or InvalidDataException) ? e.Message : throw new InvalidOperationException();
        Directory.CreateDirectory(Path.Combine(_folder, "empty"));
        Assert.Contains("docs.*", Message(Path.Combine(_folder, "empty")), StringComparison.Ordinal);
        Assert.Contains("embedded", Message(Write("one.jsonl", "{\"text\": \"one two\"}")), StringComparison.Ordinal);
        Assert.Contains("row 1", Message(Write("nan.csv", "doc_id,x\na,what\n")), StringComparison.Ordinal);
        Write("pair/docs.csv", "doc_id,x,y\na,1,0\nb,0,1\n");
        Assert.Contains("dimensions", Message(Path.GetDirectoryName(Write("pair/queries.csv", "query_id,x\nq,1\n"))!), StringComparison.Ordinal);
    }

    [Fact]
    public void The_paper_budget_runs_on_little_data()
    {
        var options = new MuveraRecipe().Defaults(Budget.Paper) with { Documents = 40, Queries = 5, Centers = 16 };
        var (result, _) = Run(options, null, Budget.Paper);
        Assert.Equal(20480, result.Arms.Single(arm => arm.Arm == "FDE 20480")["dimension"]);
    }
}
