using Priori.Runtime;

namespace Priori.Continual;

/// <summary>Labelled rows of one task.</summary>
/// <param name="Inputs">[n, ...].</param>
/// <param name="Labels">[n]: numbers, or -1 and 1 for two classes.</param>
public sealed record TaskBatch(Tensor Inputs, Tensor Labels)
{
    /// <summary>Number of rows n.</summary>
    public long Count => Labels.shape[0];

    /// <summary>The rows of several batches of one task.</summary>
    /// <param name="batches">At least one batch.</param>
    public static TaskBatch Concat(params IReadOnlyList<TaskBatch> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        return batches.Count == 1 ? batches[0] : new TaskBatch(cat([.. batches.Select(b => b.Inputs)]), cat([.. batches.Select(b => b.Labels)]));
    }

    internal void Check(string what)
    {
        if (Labels.dim() != 1 || Inputs.dim() < 2 || Inputs.shape[0] != Labels.shape[0])
            throw new ArgumentException($"{what}: inputs must be [n, ...] and labels [n], not [{string.Join(", ", Inputs.shape)}] and [{string.Join(", ", Labels.shape)}].");
    }
}

/// <summary>Many source tasks that may be labelled, and the target task with the labels that it has.</summary>
public sealed class MultiTaskDataset
{
    /// <summary>Makes a data set.</summary>
    /// <param name="sources">The source tasks, each with at least one row.</param>
    /// <param name="target">The target task.</param>
    /// <exception cref="ArgumentException">There is no source, a task has no samples, or inputs differ in shape; the message names the task.</exception>
    public MultiTaskDataset(IReadOnlyList<TaskBatch> sources, TaskBatch target)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(target);
        if (sources.Count == 0) throw new ArgumentException("There is no source task.", nameof(sources));
        target.Check("Target");
        for (int m = 0; m < sources.Count; m++)
        {
            sources[m].Check($"Source {m}");
            if (sources[m].Count == 0) throw new ArgumentException($"Source {m} has no samples.", nameof(sources));
            if (!sources[m].Inputs.shape.AsSpan(1).SequenceEqual(target.Inputs.shape.AsSpan(1)))
                throw new ArgumentException($"Source {m} has inputs [n, {string.Join(", ", sources[m].Inputs.shape[1..])}], the target [n, {string.Join(", ", target.Inputs.shape[1..])}].", nameof(sources));
        }
        (Sources, Target) = (sources, target);
    }

    /// <summary>The source tasks.</summary>
    public IReadOnlyList<TaskBatch> Sources { get; }

    /// <summary>The target task.</summary>
    public TaskBatch Target { get; }
}

/// <summary>Gives labelled samples of source tasks: a simulation from a pool, or people who label.</summary>
public interface ILabelOracle
{
    /// <summary>Number of source tasks M.</summary>
    int Tasks { get; }

    /// <summary>Samples of a task that can still be had; <see cref="long.MaxValue"/> where there is no end.</summary>
    /// <param name="task">The task, from 0.</param>
    long Available(int task);

    /// <summary>Labels further samples of a task; none is given twice.</summary>
    /// <param name="task">The task, from 0.</param>
    /// <param name="count">How many, at least 1.</param>
    TaskBatch Query(int task, long count);
}

/// <summary>Plays the labelling of samples whose labels are known: the rows of each task in a random order of their own, so that any strategy gets the same first n.</summary>
/// <param name="sources">The pool of each task.</param>
/// <param name="seed">Seed of the order.</param>
public sealed class PoolOracle(IReadOnlyList<TaskBatch> sources, int seed = 0) : ILabelOracle
{
    private readonly long[] _given = new long[sources.Count];

    /// <inheritdoc/>
    public int Tasks => sources.Count;

    /// <inheritdoc/>
    public long Available(int task) => sources[task].Count - _given[task];

    /// <inheritdoc/>
    public TaskBatch Query(int task, long count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        if (count > Available(task)) throw new ArgumentOutOfRangeException(nameof(count), count, $"The pool of task {task} has {Available(task)} samples left.");
        long[] order = [.. Enumerable.Range(0, (int)sources[task].Count).Select(i => (long)i)];
        SplitMix64.For(seed, task).Shuffle(order.AsSpan());
        using DisposeScope scope = NewDisposeScope();
        Tensor rows = tensor(order.AsSpan((int)_given[task], (int)count).ToArray());
        _given[task] += count;
        return new TaskBatch(sources[task].Inputs.index_select(0, rows.to(sources[task].Inputs.device)).MoveToOuterDisposeScope(), sources[task].Labels.index_select(0, rows.to(sources[task].Labels.device)).MoveToOuterDisposeScope());
    }
}

/// <summary>Keeps the books of another oracle: counts what each task was asked for, and refuses what would go over the budget.</summary>
/// <param name="oracle">The oracle.</param>
/// <param name="budget">Money for all queries together.</param>
/// <param name="prices">Price of a label of each task; all 1 when null.</param>
/// <param name="openingFee">Fee of each query.</param>
public sealed class BudgetedOracle(ILabelOracle oracle, double budget, IReadOnlyList<double>? prices = null, double openingFee = 0) : ILabelOracle
{
    private readonly long[] _counts = new long[oracle.Tasks];

    /// <summary>Labels given so far, by task.</summary>
    public IReadOnlyList<long> Counts => _counts;

    /// <summary>Money spent so far.</summary>
    public double Spent { get; private set; }

    /// <inheritdoc/>
    public int Tasks => oracle.Tasks;

    /// <inheritdoc/>
    public long Available(int task) => oracle.Available(task);

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The query goes over the budget, or the oracle gave another number of samples.</exception>
    public TaskBatch Query(int task, long count)
    {
        double cost = openingFee + (count * (prices?[task] ?? 1));
        if (Spent + cost > budget * (1 + 1e-12)) throw new InvalidOperationException(FormattableString.Invariant($"{count} labels of task {task} cost {cost}; {budget - Spent} of the budget of {budget} is left."));
        TaskBatch batch = oracle.Query(task, count);
        batch.Check($"Task {task}");
        if (batch.Count != count) throw new InvalidOperationException($"The oracle gave {batch.Count} samples of task {task} instead of {count}.");
        _counts[task] += count;
        Spent += cost;
        return batch;
    }
}
