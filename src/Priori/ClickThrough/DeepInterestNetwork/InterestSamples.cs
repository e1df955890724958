using Priori.Data;
using Priori.Runtime;
using Priori.Training;

namespace Priori.ClickThrough;

/// <summary>
/// Samples of (history, candidate, label) over event logs. A history is a piece of its user's events, so none is stored; a batch is padded to its own longest history.
/// The batch columns are: features of the candidate, int64 [b, features]; of the history, int64 [b, T, features]; valid positions, bool [b, T]; labels [b].
/// </summary>
public sealed class HistorySource : IBatchSource
{
    private readonly Tensor events, features, starts, candidates, labels;

    internal HistorySource(Tensor events, Tensor features, long[] starts, long[] lengths, long[] candidates, float[] labels, long[] users)
    {
        (this.events, this.features) = (events, features);
        (this.starts, Lengths, this.candidates, this.labels, Users) = (tensor(starts), tensor(lengths), tensor(candidates), tensor(labels), tensor(users));
    }

    /// <inheritdoc/>
    public long Count => labels.size(0);

    /// <summary>Length of each sample's history, int64 [samples].</summary>
    public Tensor Lengths { get; }

    /// <summary>User of each sample, int64 [samples]: the groups of GAUC.</summary>
    public Tensor Users { get; }

    /// <summary>Label of each sample: 1 for what the user did next, 0 for a drawn negative.</summary>
    public Tensor Labels => labels;

    /// <summary>Behavior (item + 1) of each candidate, int64 [samples].</summary>
    public Tensor Candidates => candidates;

    /// <inheritdoc/>
    public Batch Get(Tensor rows, Device device)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var (history, mask) = History(rows);
        Tensor[] columns = [features.index_select(0, candidates.index_select(0, rows)), features.index_select(0, history.reshape(-1)).view(history.size(0), history.size(1), -1), mask, labels.index_select(0, rows)];
        return new Batch(rows.to(device), [.. columns.Select(c => c.to(device))]);
    }

    /// <summary>Behaviors (item + 1) of the samples' histories, oldest first, int64 [b, T], and which positions are valid, bool [b, T].</summary>
    /// <param name="rows">The samples, int64 [b].</param>
    public (Tensor Behaviors, Tensor Mask) History(Tensor rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        Tensor lengths = Lengths.index_select(0, rows).unsqueeze(1);
        Tensor steps = arange(Math.Max(1, lengths.numel() == 0 ? 1 : lengths.max().item<long>()), ScalarType.Int64).unsqueeze(0);
        Tensor at = (starts.index_select(0, rows).unsqueeze(1) + steps).clamp_max(events.size(0) - 1);
        return (events.index_select(0, at.reshape(-1)).view(at.shape), steps.lt(lengths));
    }

    /// <summary>In how many samples each id of a feature occurs (n_j of eq. 6), as candidate or in the history; float32 [ids].</summary>
    /// <param name="feature">Index of the feature.</param>
    /// <param name="ids">Number of its ids.</param>
    public Tensor Counts(int feature, long ids)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor counts = zeros(ids, ScalarType.Int64), column = features.select(1, feature);
        foreach (Tensor rows in arange(Count, ScalarType.Int64).split(4096))
        {
            using DisposeScope block = NewDisposeScope();
            var (history, mask) = History(rows);
            Tensor sample = arange(rows.size(0), ScalarType.Int64).unsqueeze(1) * ids;
            Tensor past = (column.index_select(0, history.reshape(-1)).view(history.shape) + sample).masked_select(mask);
            Tensor next = column.index_select(0, candidates.index_select(0, rows)) + sample.squeeze(1);
            counts.add_(cat([past, next]).unique().output.remainder(ids).bincount(null, ids));
        }
        return counts.to(ScalarType.Float32).MoveToOuterDisposeScope();
    }
}

/// <summary>How samples are made of a log.</summary>
public sealed record InterestSampleOptions
{
    /// <summary>Most past events of a history, the newest ones; at least 1.</summary>
    public int MaxHistory { get; init; } = 50;

    /// <summary>Part of the training positions that is kept, drawn at random; in (0, 1].</summary>
    public double Keep { get; init; } = 1;

    /// <summary>Negatives drawn for each positive of training and validation, at least 1.</summary>
    public int Negatives { get; init; } = 1;

    /// <summary>Negatives drawn for each user of the test, at least 1.</summary>
    public int TestNegatives { get; init; } = 1;

    /// <summary>Whether the last event but one of each user is held out for validation.</summary>
    public bool Validation { get; init; }
}

/// <summary>
/// Training, validation and test samples of a log (Zhou et al., KDD 2018, section 6.1): for each position k of a user the history is b_1..b_k, the positive b_(k+1), and the negatives are drawn
/// uniformly from the items. The last event of each user is the test, given all before; training ends before what is held out.
/// <para>
/// A negative is never in the user's own list as far as the part may know it: for training, the items before those held out; for the validation, those before the test; for the test, all.
/// So no held-out event has a part in how training data are made. Users with one event give no sample, since there is no history with something after it.
/// </para>
/// </summary>
public sealed class InterestSamples
{
    private InterestSamples(Tensor features, HistorySource train, HistorySource? validation, HistorySource test, int usersWithoutSample)
        => (Features, Train, Validation, Test, UsersWithoutSample) = (features, train, validation, test, usersWithoutSample);

    /// <summary>Features of each behavior, int64 [items + 1, features]: the item's own id and its categories. Behavior 0 is an unknown item; ids of 0 are unknown too.</summary>
    public Tensor Features { get; }

    /// <summary>Samples to train on.</summary>
    public HistorySource Train { get; }

    /// <summary>Samples to stop by, if asked for and there are any.</summary>
    public HistorySource? Validation { get; }

    /// <summary>Samples to test on.</summary>
    public HistorySource Test { get; }

    /// <summary>Users who gave no sample: with one event, or with every item in their list.</summary>
    public int UsersWithoutSample { get; }

    /// <summary>Makes the samples.</summary>
    /// <param name="log">The log.</param>
    /// <param name="seed">Seed of the draws.</param>
    /// <param name="options">How; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or the log gives nothing to train or test on.</exception>
    public static InterestSamples Of(EventLog log, int seed, InterestSampleOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(log);
        options ??= new InterestSampleOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxHistory, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Negatives, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.TestNegatives, 1, nameof(options));
        if (options.Keep is not (> 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(options), options.Keep, "The kept part lies above 0 and at most at 1.");
        Part train = new(log, options.MaxHistory), validation = new(log, options.MaxHistory), test = new(log, options.MaxHistory);
        int without = 0, held = options.Validation ? 2 : 1;
        for (int user = 0; user < log.Users.Count; user++)
        {
            SplitMix64 random = SplitMix64.For(seed, 0x444E, user);
            int n = log.ItemsOf(user).Length;
            long before = train.Count + validation.Count + test.Count;
            for (int k = 1; k < n - held; k++)
                if (options.Keep == 1 || random.NextDouble() < options.Keep) train.Add(user, k, n - held, options.Negatives, random);
            if (options.Validation && n > 2) validation.Add(user, n - 2, n - 1, options.Negatives, random);
            if (n > 1) test.Add(user, n - 1, n, options.TestNegatives, random);
            if (train.Count + validation.Count + test.Count == before) without++;
        }
        if (train.Count == 0) throw new ArgumentException($"No user has enough events: training needs one with {held + 2}, and an item that is not in the user's list.", nameof(log));
        Tensor features = FeaturesOf(log), events = tensor(log.EventItems.ToArray(), ScalarType.Int64) + 1;
        return new InterestSamples(features, train.Source(events, features), validation.Count > 0 ? validation.Source(events, features) : null, test.Source(events, features), without);
    }

    /// <summary>Features of each behavior of a log, as <see cref="Features"/>.</summary>
    /// <param name="log">The log.</param>
    public static Tensor FeaturesOf(EventLog log)
    {
        ArgumentNullException.ThrowIfNull(log);
        int width = 1 + log.Categories.Count;
        long[] features = new long[(log.Items.Count + 1) * width];
        for (int item = 0; item < log.Items.Count; item++)
        {
            features[(item + 1) * width] = item + 1;
            for (int c = 0; c < log.Categories.Count; c++) features[((item + 1) * width) + 1 + c] = log.Categories[c].OfItem[item] + 1;
        }
        return tensor(features).view(-1, width);
    }

    private sealed class Part(EventLog log, int maxHistory)
    {
        private readonly List<long> starts = [], lengths = [], candidates = [], users = [];
        private readonly List<float> labels = [];
        private readonly HashSet<int> own = [];
        private (int User, int Known) ownOf = (-1, 0);

        public int Count => labels.Count;

        /// <summary>The event at <paramref name="position"/> of a user given those before, and negatives from outside the user's first <paramref name="known"/> events.</summary>
        public void Add(int user, int position, int known, int negatives, SplitMix64 random)
        {
            ReadOnlySpan<int> items = log.ItemsOf(user);
            if (ownOf != (user, known))
            {
                own.Clear();
                foreach (int item in items[..known]) own.Add(item);
                ownOf = (user, known);
            }
            if (own.Count == log.Items.Count) return;
            Add(user, position, items[position], 1);
            for (int i = 0; i < negatives; i++) Add(user, position, Negative(random), 0);
        }

        public HistorySource Source(Tensor events, Tensor features) => new(events, features, [.. starts], [.. lengths], [.. candidates], [.. labels], [.. users]);

        private void Add(int user, int position, int item, float label)
        {
            int length = Math.Min(position, maxHistory);
            starts.Add(log.Offsets[user] + position - length);
            lengths.Add(length);
            candidates.Add(item + 1);
            labels.Add(label);
            users.Add(user);
        }

        /// <summary>A uniform draw from the items outside the list: by rejection, or from their list where the user has most items.</summary>
        private int Negative(SplitMix64 random)
        {
            int count = log.Items.Count;
            if (2 * own.Count > count)
            {
                int[] others = [.. Enumerable.Range(0, count).Where(i => !own.Contains(i))];
                return others[random.Next(others.Length)];
            }
            int item = random.Next(count);
            while (own.Contains(item)) item = random.Next(count);
            return item;
        }
    }
}
