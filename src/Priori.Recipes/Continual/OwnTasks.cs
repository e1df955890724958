using System.Text.Json;
using Priori.Continual;
using Priori.Data;
using Priori.Reporting;
using Priori.Reproduction;
using Priori.Runtime;
using TorchSharp.Modules;

namespace Priori.Recipes.Continual;

/// <summary>What a model of <see cref="ActiveMultitaskRecipe"/> needs to be built again.</summary>
internal sealed record TransferDescription(TaskColumns Columns, string Model, int Dim, int Hidden);

/// <summary>The recipe on the user's own tasks: planning, comparing strategies where all labels are known, training, applying.</summary>
internal static class OwnTasks
{
    private const string ModelName = "transfer";
    private const int MostSeeds = 5; // of the comparison: each is a split of the target's rows

    private static readonly (string Name, SamplingStrategy Strategy)[] Strategies =
        [("uniform", SamplingStrategy.Uniform), ("nu2 squared", SamplingStrategy.MinNormSquared), ("nu2", SamplingStrategy.MinNorm), ("nu1 lasso", SamplingStrategy.Lasso), ("top tasks", SamplingStrategy.TopTasks), ("target only", SamplingStrategy.TargetOnly)];

    public static void Run(ActiveMultitaskRecipeOptions options, RunContext context, TaskPool pool)
    {
        int sources = pool.Tasks.Count, d = pool.Columns.Inputs.Count;
        long labelled = pool.Labelled.Sum(b => b?.Count ?? 0), unlabelled = pool.Unlabelled.Sum(u => u.Length);
        context.UsedData($"{Path.GetFileName(context.Data!.Path)}: {sources} source tasks, {labelled} labelled and {unlabelled} unlabelled rows, {d} inputs; target of {pool.Target.Count} rows{(pool.Columns.Classes is { } c ? $", classes {c[0]} and {c[1]}" : "")}");
        if (options.Model == "linear" && options.Dim > d) throw new BadInputException($"Option 'dim' is {options.Dim}, but there are only {d} inputs; give --set dim={d} or less.");
        if (options.Ridge == 0 && pool.Target.Count < options.Dim) throw new BadInputException($"The target's {pool.Target.Count} rows leave a head of {options.Dim} dimensions under-determined; give --set ridge=1 or a smaller dim.");
        long[] each = [.. pool.Tasks.Select((_, m) => (pool.Labelled[m]?.Count ?? 0) + pool.Unlabelled[m].Length)];
        double whole = Allocation.Cost(each, pool.Prices, options.OpeningFee), budget = options.Budget;
        if (budget > whole)
        {
            context.Note($"The budget of {Numbers.Text(budget, "N0")} is more than all {each.Sum()} rows of the pool cost; {Numbers.Text(whole, "N0")} is used.");
            budget = whole;
        }
        int minimum = (int)Math.Min(options.MinPerTask, each.Min());
        if (minimum < options.MinPerTask) context.Note($"The smallest source has {minimum} rows: the least number of labels of each source is {minimum} instead of {options.MinPerTask}.");
        double least = Allocation.Cost([.. Enumerable.Repeat((long)Math.Max(1, minimum), sources)], pool.Prices, options.OpeningFee);
        if (budget < least && (options.Plan || pool.FullyLabelled))
            throw new BadInputException($"A budget of {Numbers.Text(budget, "0.##")} does not give each of the {sources} sources {minimum} labels: at least {Numbers.Text(least, "0.##")} is needed.");
        ActiveMultiTaskOptions settings = new()
        {
            Budget = budget,
            Strategy = options.Strategy,
            ExploreFraction = options.Explore,
            MinPerTask = minimum,
            LambdaRatio = options.LambdaRatio,
            CrossValidate = options.CrossValidate,
            Epochs = options.Epochs,
            Ridge = options.Ridge,
            UnitCosts = pool.Prices,
            OpeningFee = options.OpeningFee,
        };
        if (options.Plan)
        {
            Plan(options, context, pool, settings);
            return;
        }
        if (labelled == 0) throw new BadInputException($"{context.Data.Path} has no labels yet: give --set plan=true to learn which rows to label first.");
        if (pool.FullyLabelled) Compare(options, context, pool, settings);
        else context.Note($"{unlabelled} rows of the pool have no label: the model is trained on the {labelled} that have one. Strategies are compared where all rows are labelled.");
        Train(options, context, pool, settings);
    }

    public static void Save(ArmRun run, string name, ActiveMultiTaskResult result, TaskColumns columns, string model, int dim, int hidden)
        => run.SaveModel(name, Tensors(result), new TransferDescription(columns, model, dim, hidden));

    public static void Apply(SavedRun run, ApplyContext context)
    {
        string name = run.Models.Contains(ModelName) ? ModelName : run.Models.FirstOrDefault() ?? throw new BadInputException($"Run {run.Folder} has no model: it only planned which labels to buy. Run again without plan once they are there.");
        TransferDescription description = run.Description<TransferDescription>(name);
        Dictionary<string, Tensor> tensors = run.Model(name);
        Table table = Table.Read(context.DataPath);
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Module<Tensor, Tensor> representation = Representation(description.Model, description.Columns.Inputs.Count, (int)tensors["head.weight"].shape[1], description.Hidden);
        representation.load_state_dict(tensors.Where(t => t.Key.StartsWith("representation.", StringComparison.Ordinal)).ToDictionary(t => t.Key["representation.".Length..], t => t.Value));
        Tensor features = representation.call(description.Columns.Read(table).to(representation.parameters().First().dtype)).to(float64);
        Tensor scores = features.mv(tensors["head.weight"].to(float64).squeeze(0)) + (tensors.TryGetValue("head.bias", out Tensor? bias) ? bias.to(float64) : zeros(1, float64));
        double[] values = scores.data<double>().ToArray();
        IReadOnlyList<string>? classes = description.Columns.Classes;
        Csv.Write(context.OutPath, classes is null ? ["row", "prediction"] : ["row", "prediction", "score"], values.Select((v, i) => (string[])(classes is null
            ? [Numbers.Text(i + 1, "F0"), Numbers.Text(v * description.Columns.LabelScale, "G9")]
            : [Numbers.Text(i + 1, "F0"), classes[v > 0 ? 1 : 0], Numbers.Text(v, "G6")])));
        context.Report($"{values.Length} rows predicted.");
    }

    private static void Plan(ActiveMultitaskRecipeOptions options, RunContext context, TaskPool pool, ActiveMultiTaskOptions settings)
    {
        if (pool.FullyLabelled) throw new BadInputException($"Every row of {context.Data!.Path} has a label: there is nothing to plan. Leave out plan to compare strategies and train.");
        int seed = context.Seeds[0];
        ArmResult arm = context.Arm("plan", seed, run =>
        {
            long[] available = [.. pool.Unlabelled.Select(u => (long)u.Length)];
            LabelPlan plan = new ActiveMultiTaskSampler(Erm(options, pool, run), settings).Plan(pool.Labelled, pool.Target, available);
            run.Metric("labels", plan.Counts.Sum());
            run.Metric("cost", plan.Cost);
            run.Tensor("counts", tensor(plan.Counts.ToArray()));
            if (plan.Relevance is not null) run.Tensor("relevance", plan.Relevance);
            run.Metric("explores", plan.Relevance is null ? 1 : 0);
        });
        long[] counts = arm.Tensor("counts").data<long>().ToArray();
        double[]? nu = arm["explores"] == 0 ? arm.Tensor("relevance").data<double>().ToArray() : null;
        int[] order = [.. Enumerable.Range(0, counts.Length).OrderByDescending(m => counts[m])];
        string[] header = ["task_id", "nu", "labelled", "unlabelled", "buy", "cost"];
        string[] Row(int m) => [pool.Tasks[m], nu is null ? "" : Numbers.Text(nu[m], "G6"), $"{pool.Labelled[m]?.Count ?? 0}", $"{pool.Unlabelled[m].Length}", $"{counts[m]}", Numbers.Text(counts[m] == 0 ? 0 : options.OpeningFee + (counts[m] * (pool.Prices?[m] ?? 1)), "0.##")];
        Csv.Write(context.OutputPath("plan.csv"), header, order.Select(Row));
        Csv.Write(context.OutputPath("to_label.csv"), ["row", "task_id"], Enumerable.Range(0, counts.Length).SelectMany(m =>
        {
            int[] rows = [.. pool.Unlabelled[m]];
            SplitMix64.For(seed, m).Shuffle(rows.AsSpan());
            return rows.Take((int)counts[m]).Order().Select(r => (string[])[$"{r + 1}", pool.Tasks[m]]);
        }));
        context.Table("plan", "Labels to buy next", header, [.. order.Take(40).Select(Row)]);
        context.Note(arm["labels"] == 0 ? "The budget is spent: run without plan to train the model."
            : $"Label the {arm["labels"]:F0} rows of outputs/to_label.csv ({(nu is null ? "exploration: equally from all sources" : "in proportion to the relevance |nu|")}), put the labels into the pool's column '{pool.Columns.Label}', and run again: with plan=true for the next purchase, without for the model.");
        if (nu is not null) RelevanceFigure(context, pool, nu, "of the labels so far");
    }

    private static void Compare(ActiveMultitaskRecipeOptions options, RunContext context, TaskPool pool, ActiveMultiTaskOptions settings)
    {
        double least = Allocation.Cost([.. Enumerable.Repeat((long)Math.Max(1, settings.MinPerTask), pool.Tasks.Count)], pool.Prices, options.OpeningFee);
        double[] budgets = [.. new[] { .1, .25, .5, 1 }.Select(f => Math.Max(least, Math.Floor(f * settings.Budget))).Distinct()];
        TaskBatch[] sources = [.. pool.Labelled.Select(b => b!)];
        long rows = pool.Target.Count, tests = pool.Test is null ? (long)Math.Round(options.TestShare * rows) : 0;
        if (pool.Test is null && (tests < 1 || rows - tests < 2 || (options.Ridge == 0 && rows - tests < options.Dim)))
        {
            context.Note($"The target's {rows} rows are too few to hold some out: strategies are not compared. Give --data.test.");
            return;
        }
        bool classes = pool.Columns.Classes is not null;
        var results = new Dictionary<string, List<ArmResult>>();
        int[] seeds = [.. context.Seeds.Take(MostSeeds)];
        foreach (int seed in seeds)
        {
            int[] order = [.. Enumerable.Range(0, (int)rows)];
            SplitMix64.For(seed, 0x5445).Shuffle(order.AsSpan());
            TaskBatch Part(TaskBatch from, IEnumerable<int> chosen)
            {
                Tensor index = tensor(chosen.Select(i => (long)i).ToArray());
                return new TaskBatch(from.Inputs.index_select(0, index), from.Labels.index_select(0, index));
            }
            TaskBatch train = Part(pool.Target, order.Skip((int)tests)), test = pool.Test ?? Part(pool.Target, order.Take((int)tests));
            foreach (var (name, strategy) in Strategies)
            {
                if (!results.TryGetValue(name, out List<ArmResult>? list)) results[name] = list = [];
                list.Add(context.Arm(name, seed, run =>
                {
                    double[] errors = [.. budgets.Select(budget =>
                    {
                        using DisposeScope scope = NewDisposeScope();
                        ActiveMultiTaskResult result = new ActiveMultiTaskSampler(Erm(options, pool, run), settings with { Budget = budget, Strategy = strategy }).Run(new PoolOracle(sources, seed), train);
                        result.Representation.cpu();
                        return Error(result, test, pool);
                    })];
                    for (int i = 0; i < budgets.Length; i++) run.Metric($"error {budgets[i]:F0}", errors[i]);
                    run.Series("error", budgets, errors);
                }));
            }
        }
        string measure = classes ? "wrong, %" : "mean squared error";
        context.Table("strategies", $"Target error ({measure}) on held-out rows against the budget, over {seeds.Length} seeds", ["strategy", .. budgets.Select(b => Numbers.Text(b, "N0"))],
            [.. results.Select(r => (IReadOnlyList<string>)[r.Key, .. budgets.Select(b => Numbers.MeanAndDeviation(r.Value, $"error {b:F0}", "G4"))])]);
        context.Figure("error-budget", "Target error of each strategy against the budget; mean and range over seeds.", Charts.Lines("Error against budget", pool.Prices is null ? "labels of source tasks" : "budget", measure,
            [.. results.Select(r => new Curve(r.Key, budgets, [.. r.Value.Select(a => (IReadOnlyList<double>)a.Series("error").Y)], Dashed: r.Key is "uniform" or "target only"))]));
        foreach (string baseline in new[] { "uniform", "nu2 squared", "target only" }) context.Compare(null, $"{baseline} - nu1 lasso", results[baseline], results["nu1 lasso"], $"error {budgets[^1]:F0}");
    }

    private static void Train(ActiveMultitaskRecipeOptions options, RunContext context, TaskPool pool, ActiveMultiTaskOptions settings)
    {
        ArmResult arm = context.Arm("model", context.Seeds[0], run =>
        {
            var sampler = new ActiveMultiTaskSampler(Erm(options, pool, run), settings);
            ActiveMultiTaskResult result = pool.FullyLabelled ? sampler.Run(new PoolOracle([.. pool.Labelled.Select(b => b!)], run.Seed), pool.Target) : sampler.Complete(pool.Labelled, pool.Target);
            result.Representation.cpu();
            run.Metric("cost", result.Cost);
            run.Metric("training error", Error(result, pool.Target, pool));
            if (pool.Test is not null) run.Metric("test error", Error(result, pool.Test, pool));
            run.Tensor("relevance", result.Relevance);
            run.Tensor("counts", tensor(result.Counts.ToArray()));
            Save(run, ModelName, result, pool.Columns, options.Model, options.Dim, options.Hidden);
            Dictionary<string, Tensor> tensors = Tensors(result);
            Safetensors.Write(context.OutputPath("representation.safetensors"), tensors.Where(t => t.Key.StartsWith("representation.", StringComparison.Ordinal)).ToDictionary(t => t.Key["representation.".Length..], t => t.Value));
            AtomicFile.WriteText(context.OutputPath("target-head.json"), JsonSerializer.Serialize(new
            {
                weight = tensors["head.weight"].to(float64).reshape(-1).data<double>().ToArray(),
                bias = tensors.TryGetValue("head.bias", out Tensor? bias) ? bias.to(float64).item<double>() : 0,
                labelScale = pool.Columns.LabelScale,
                classes = pool.Columns.Classes,
            }));
        });
        double[] nu = arm.Tensor("relevance").data<double>().ToArray();
        long[] counts = arm.Tensor("counts").data<long>().ToArray();
        int[] order = [.. Enumerable.Range(0, nu.Length).OrderByDescending(m => Math.Abs(nu[m])).ThenByDescending(m => counts[m])];
        string[] header = ["task_id", "nu", "labels", "cost"];
        string[] Row(int m) => [pool.Tasks[m], Numbers.Text(nu[m], "G6"), $"{counts[m]}", Numbers.Text(counts[m] * (pool.Prices?[m] ?? 1), "0.##")];
        Csv.Write(context.OutputPath("relevance.csv"), header, order.Select(Row));
        context.Table("relevance", $"Relevance of each source, and the labels it was bought ({options.Strategy})", header, [.. order.Take(40).Select(Row)]);
        RelevanceFigure(context, pool, nu, "estimated with all labels that were bought");
    }

    private static void RelevanceFigure(RunContext context, TaskPool pool, double[] nu, string what)
        => context.Figure("relevance", $"Relevance |nu| of the sources for the target, {what}; the 40 largest.",
            Charts.Bars("Relevance of the sources", "|nu|", [.. Enumerable.Range(0, nu.Length).OrderByDescending(m => Math.Abs(nu[m])).Take(40).Select(m => (pool.Tasks[m], (IReadOnlyList<double>)[Math.Abs(nu[m])]))]), width: 1200);

    private static double Error(ActiveMultiTaskResult result, TaskBatch test, TaskPool pool)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor predicted = result.Predict(test.Inputs).to(float64);
        return pool.Columns.Classes is null
            ? (predicted - test.Labels).square().mean().item<double>() * pool.Columns.LabelScale * pool.Columns.LabelScale
            : 100 * predicted.gt(0).ne(test.Labels.gt(0)).to(float64).mean().item<double>();
    }

    private static IMultiTaskErm Erm(ActiveMultitaskRecipeOptions options, TaskPool pool, ArmRun run) => options.Model == "linear"
        ? new LinearErm(options.Dim, intercept: true)
        : new DeepErm(() => Representation("mlp", pool.Columns.Inputs.Count, options.Dim, options.Hidden), options.Dim, options.Deep(run.Seed, run.Device), run.Trainer) { Cancellation = run.Cancellation };

    private static Module<Tensor, Tensor> Representation(string model, int inputs, int dim, int hidden) => model == "linear"
        ? Linear(inputs, dim, hasBias: false, dtype: float64)
        : Sequential(("hidden", Linear(inputs, hidden)), ("relu", ReLU()), ("features", Linear(hidden, dim)));

    private static Dictionary<string, Tensor> Tensors(ActiveMultiTaskResult result)
        => result.Representation.state_dict().ToDictionary(t => $"representation.{t.Key}", t => t.Value.detach().cpu().clone())
            .Concat(result.Head.state_dict().ToDictionary(t => $"head.{t.Key}", t => t.Value.detach().cpu().clone())).ToDictionary();
}
