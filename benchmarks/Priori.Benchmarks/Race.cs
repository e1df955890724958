using System.Diagnostics;
using System.Globalization;
using System.Text;
using Priori.Benchmarks.ClickThrough;
using Priori.Benchmarks.Continual;
using Priori.Benchmarks.Interpretability;
using Priori.Benchmarks.Numerics;
using Priori.Benchmarks.Training;

namespace Priori.Benchmarks;

/// <summary>
/// Two ways to the same work in turn, A B A B ...: the ratio of their fastest rounds and the median of the ratios pair by pair hold on a machine whose
/// speed drifts, where separate means do not. <c>-- race</c> runs them all and writes <c>benchmarks/results/races.md</c>; <c>-- race 60 WORD</c> only shows those with the word in their name.
/// </summary>
internal static class Race
{
    public static string RunAll(int rounds, string only)
    {
        var text = new StringBuilder("| race | rounds | fastest A (ms) | fastest B (ms) | B / A, fastest | B / A, median of pairs |\n| --- | --- | --- | --- | --- | --- |\n");
        foreach (string model in new[] { "mlp", "cnn" })
        {
            string name = $"A: hand-written loop, B: Trainer ({(model == "mlp" ? "64-64-10, 400 steps" : "two-layer CNN, 8 steps")}, batch 128, one thread)";
            if (!name.Contains(only, StringComparison.Ordinal)) continue;
            var trainer = new TrainerBenchmark { Model = model };
            trainer.Setup();
            Add(text, name, rounds, () => trainer.HandWritten(), () => trainer.Trainer());
        }
        foreach (long fields in new long[] { 32, 128 })
        {
            foreach (double alpha in new[] { 1.3, 1.5, 1.7, 2, 2.5 })
            {
                string name = string.Create(CultureInfo.InvariantCulture, $"A: softmax, B: entmax of alpha {alpha} (forward and backward of [1024, {fields}, 10], one thread)");
                if (!name.Contains(only, StringComparison.Ordinal)) continue;
                var entmax = new EntmaxBenchmark { Fields = fields, Alpha = alpha };
                entmax.Setup();
                Add(text, name, rounds, entmax.Softmax, entmax.Entmax);
            }
        }
        foreach (string optimizer in new[] { "RowwiseAdam", "RowwiseAdagrad" })
        {
            string name = $"A: table of 10,000 rows, B: of 10,000,000 ({optimizer}, batch 1,024 x 10 fields x 16, one thread)";
            if (!name.Contains(only, StringComparison.Ordinal)) continue;
            var small = new SparseGradientsBenchmark { Rows = 10_000, Optimizer = optimizer };
            var large = new SparseGradientsBenchmark { Rows = 10_000_000, Optimizer = optimizer };
            small.Setup();
            large.Setup();
            Add(text, name + ", the table's step", rounds, small.TableStep, large.TableStep);
            Add(text, name + ", with a 400-400-400 network", rounds, small.WholeStep, large.WholeStep);
            small.Cleanup();
            large.Cleanup();
        }
        foreach (string hidden in new[] { "64-32", "700-700-700-700-700" })
        {
            string name = $"A: OptInter's search step, pairs by index_select and combinations looked up, B: pairs concatenated one by one, combinations given (325 pairs, batch 1,000, {hidden}, one thread)";
            if (!name.Contains(only, StringComparison.Ordinal)) continue;
            var search = new OptInterBenchmark { Hidden = hidden };
            search.Setup();
            Add(text, name, Math.Max(1, rounds / 4), () => search.Vectorized(), () => search.Loop());
        }
        foreach (bool edges in new[] { false, true })
        {
            string name = $"A: interaction basis{(edges ? " with edges" : "")} by the closed form, B: by a reverse pass for each target coordinate (100-100-100-10, ReLU, 2,000 samples, one thread)";
            if (!name.Contains(only, StringComparison.Ordinal)) continue;
            var basis = new InteractionBasisBenchmark { Edges = edges };
            basis.Setup();
            Add(text, name, Math.Max(1, rounds / 8), () => basis.ClosedForm(), () => basis.PerOutput());
        }
        foreach (long units in new long[] { 256, 1024, 4096 })
        {
            string name = $"A: bare matrix product, B: StreamingCorrelation between two layers of {units} units (3,000 observations, float64, one thread)";
            if (!name.Contains(only, StringComparison.Ordinal)) continue;
            var correlation = new StreamingCorrelationBenchmark { Units = units, Observations = 3000 };
            correlation.Setup();
            Add(text, name, Math.Max(1, rounds / (units > 1024 ? 10 : 1)), correlation.Product, correlation.Between);
        }
        const string RehearsalFree = "rehearsal-free: 100 steps of a second task, 784-256-256, batch 64, one thread; A: fine-tuning and one more forward pass, B: ";
        if (RehearsalFree.Contains(only, StringComparison.Ordinal))
        {
            var penalties = new RehearsalFreeBenchmark();
            penalties.Setup();
            Add(text, RehearsalFree + "without it", rounds / 2, penalties.WithOneMoreForward, penalties.FineTuning);
            Add(text, RehearsalFree + "PredKD", rounds / 2, penalties.WithOneMoreForward, penalties.PredictionDistillation);
            Add(text, RehearsalFree + "L2", rounds / 2, penalties.WithOneMoreForward, penalties.L2);
            Add(text, RehearsalFree + "EWC", rounds / 2, penalties.WithOneMoreForward, penalties.ElasticWeightConsolidation);
            var fisher = new DiagonalFisherBenchmark();
            fisher.Setup();
            Add(text, "rehearsal-free: diagonal Fisher information of 784-256-256-10 from 1,000 samples, one thread; A: outer products, B: one backward pass a sample", Math.Max(1, rounds / 10), fisher.OuterProducts, fisher.OneBackwardASample);
        }
        return text.ToString();
    }

    private static void Add(StringBuilder text, string name, int rounds, Action a, Action b)
    {
        a();
        b();
        var times = new (double A, double B)[rounds];
        for (int i = 0; i < rounds; i++)
            times[i] = i % 2 == 0 ? (Time(a), Time(b)) : Swap((Time(b), Time(a))); // Neither is always the first.
        double fastestA = times.Min(t => t.A), fastestB = times.Min(t => t.B), median = times.Select(t => t.B / t.A).Order().ElementAt(rounds / 2);
        text.Append(CultureInfo.InvariantCulture, $"| {name} | {rounds} | {fastestA:F1} | {fastestB:F1} | {fastestB / fastestA:F3} | {median:F3} |\n");
    }

    private static (double, double) Swap((double First, double Second) pair) => (pair.Second, pair.First);

    private static double Time(Action work)
    {
        long start = Stopwatch.GetTimestamp();
        work();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }
}
