using Priori.ClickThrough;
using Priori.Data;
using Priori.Metrics;
using Priori.Reporting;
using Priori.Runtime;

namespace Priori.Recipes.ClickThrough;

/// <summary>What a ranking of an event log's users met.</summary>
internal sealed record RankingCounts(long Users, long UnknownEvents, long EmptyUsers);

/// <summary>
/// Ranks candidates for the users of an event log of any size. Only the newest events of each user are kept, and a large file is read several times, each time for a part of the users,
/// so that memory is bounded by <see cref="PartBytes"/> of the file.
/// </summary>
internal sealed class InterestRanker(DeepInterestNetwork model, Tensor features, string[] items, int maxHistory, int top, bool repeats, Device device)
{
    public const long PartBytes = 1 << 28;
    private const int UserBlock = 64;
    private readonly Dictionary<string, long> behaviorOf = items.Select((name, i) => (name, i)).ToDictionary(p => p.name, p => p.i + 1L, StringComparer.Ordinal);

    /// <summary>Behaviors of the items that a table lists; those that the model does not know are left out.</summary>
    public long[] Candidates(string path, string column)
    {
        var found = new HashSet<long>();
        foreach (Table block in TableReader.Blocks(path, 1 << 14))
        {
            if (!block.Has(column)) throw new BadInputException($"{path} has no column '{column}'; it has: {string.Join(", ", block.Columns)}.");
            foreach (string? item in block[column])
                if (item is not null && behaviorOf.TryGetValue(item, out long behavior)) found.Add(behavior);
        }
        return found.Count > 0 ? [.. found] : throw new BadInputException($"{path}: none of the items in column '{column}' is one that the model knows, such as {string.Join(", ", items.Take(3))}.");
    }

    /// <summary>Every item.</summary>
    public long[] Candidates() => [.. behaviorOf.Values];

    public RankingCounts Rank(string path, EventColumns columns, long[] candidates, string output, long partBytes, CancellationToken cancellation)
    {
        long users = 0, unknown = 0, empty = 0;
        int parts = (int)(new FileInfo(path).Length / partBytes) + 1;
        Tensor candidateFeatures = features.index_select(0, tensor(candidates)).to(device);
        Dictionary<long, int> position = candidates.Select((behavior, i) => (behavior, i)).ToDictionary(p => p.behavior, p => p.i);
        Csv.Write(output, ["user", "rank", "item", "probability", "past item", "weight"], Lines());
        return new RankingCounts(users, unknown, empty);

        IEnumerable<IReadOnlyList<string>> Lines()
        {
            for (int part = 0; part < parts; part++)
            {
                var histories = new Dictionary<string, RecentEvents>(StringComparer.Ordinal);
                foreach (var (user, item, time) in EventLog.Stream(path, columns))
                {
                    cancellation.ThrowIfCancellationRequested();
                    if (parts > 1 && Part(user, parts) != part) continue;
                    if (!histories.TryGetValue(user, out RecentEvents? recent)) histories[user] = recent = new RecentEvents(maxHistory);
                    if (behaviorOf.TryGetValue(item, out long behavior)) recent.Add(time, behavior);
                    else unknown++;
                }
                foreach (KeyValuePair<string, RecentEvents>[] block in histories.Chunk(UserBlock))
                {
                    cancellation.ThrowIfCancellationRequested();
                    users += block.Length;
                    long[][] past = [.. block.Select(user => user.Value.OldestFirst())];
                    empty += past.Count(p => p.Length == 0);
                    foreach (IReadOnlyList<string> line in Ranked([.. block.Select(user => user.Key)], past)) yield return line;
                }
            }
        }

        List<IReadOnlyList<string>> Ranked(string[] names, long[][] past)
        {
            using DisposeScope scope = NewDisposeScope();
            using var ungraphed = no_grad();
            int length = Math.Max(1, past.Max(p => p.Length));
            Tensor lengths = tensor(past.Select(p => (long)p.Length).ToArray()).unsqueeze(1);
            Tensor behaviors = tensor(past.SelectMany(p => p.Concat(Enumerable.Repeat(0L, length - p.Length))).ToArray());
            Tensor history = features.index_select(0, behaviors).view(past.Length, length, -1).to(device), mask = arange(length, ScalarType.Int64).unsqueeze(0).lt(lengths).to(device);
            Tensor scores = model.Score(candidateFeatures, history, mask);
            int[][] ranked = TopKEvaluator.Rank(scores, repeats ? null : user => past[user].Where(position.ContainsKey).Select(b => position[b]).Distinct(), top);
            int width = Math.Max(1, ranked.Max(r => r.Length));
            Tensor chosen = tensor(ranked.SelectMany(r => r.Select(i => (long)i).Concat(Enumerable.Repeat(0L, width - r.Length))).ToArray()).view(past.Length, width).to(device);
            float[] probability = scores.gather(1, chosen).sigmoid().cpu().reshape(-1).data<float>().ToArray();
            Tensor weights = model.Weights(candidateFeatures.index_select(0, chosen.reshape(-1)).view(past.Length, width, -1), history, mask)[0];
            Tensor strongest = weights.abs().argmax(-1, keepdim: true);
            long[] at = strongest.cpu().reshape(-1).data<long>().ToArray();
            float[] weight = weights.gather(-1, strongest).cpu().reshape(-1).data<float>().ToArray();
            List<IReadOnlyList<string>> lines = [];
            for (int user = 0; user < names.Length; user++)
            {
                for (int rank = 0; rank < ranked[user].Length; rank++)
                {
                    int cell = (user * width) + rank;
                    bool any = past[user].Length > 0;
                    lines.Add([names[user], Numbers.Text(rank + 1, "F0"), items[candidates[ranked[user][rank]] - 1], Numbers.Text(probability[cell], "G6"),
                        any ? items[past[user][at[cell]] - 1] : "", any ? Numbers.Text(weight[cell], "G6") : ""]);
                }
            }
            return lines;
        }
    }

    /// <summary>A part of 0..parts - 1 for each user: FNV-1a, the same in every process.</summary>
    private static int Part(string user, int parts) => (int)(user.Aggregate(2166136261u, (hash, character) => (hash ^ character) * 16777619u) % (uint)parts);

    /// <summary>The newest events of a user, given in any order.</summary>
    private sealed class RecentEvents(int most)
    {
        private List<(double Time, int Order, long Behavior)> events = [];
        private int order;

        public void Add(double time, long behavior)
        {
            events.Add((time, order++, behavior));
            if (events.Count >= 2 * most + 16) Trim();
        }

        public long[] OldestFirst()
        {
            Trim();
            return [.. events.Select(e => e.Behavior)];
        }

        private void Trim()
        {
            events.Sort();
            if (events.Count > most) events = events[^most..];
        }
    }
}
