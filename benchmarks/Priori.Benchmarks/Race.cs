using System.Diagnostics;
using System.Globalization;
using System.Text;
using Priori.Benchmarks.Training;

namespace Priori.Benchmarks;

/// <summary>
/// Two ways to the same work in turn, A B A B ...: the ratio of their fastest rounds and the median of the ratios pair by pair hold on a machine whose
/// speed drifts, where separate means do not. <c>-- race</c> runs them all and writes <c>benchmarks/results/races.md</c>.
/// </summary>
internal static class Race
{
    public static string RunAll(int rounds)
    {
        var text = new StringBuilder("| race | rounds | fastest A (ms) | fastest B (ms) | B / A, fastest | B / A, median of pairs |\n| --- | --- | --- | --- | --- | --- |\n");
        foreach (string model in new[] { "mlp", "cnn" })
        {
            var trainer = new TrainerBenchmark { Model = model };
            trainer.Setup();
            Add(text, $"A: hand-written loop, B: Trainer ({(model == "mlp" ? "64-64-10, 400 steps" : "two-layer CNN, 8 steps")}, batch 128, one thread)", rounds, () => trainer.HandWritten(), () => trainer.Trainer());
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
