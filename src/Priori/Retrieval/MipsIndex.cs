using Priori.Numerics;

namespace Priori.Retrieval;

/// <summary>The best vectors of a search, best first; of equal scores the lower position is first.</summary>
/// <param name="Positions">Positions of the vectors, counted from 0 in the order they were added.</param>
/// <param name="Scores">Their inner products with the query (estimates of them where the index says so).</param>
public sealed record Neighbors(int[] Positions, float[] Scores);

/// <summary>
/// Maximum inner product search over vectors that are added once and may be removed. Searches may run at the same time; adding and removing may not run beside anything else.
/// </summary>
public abstract class MipsIndex : IDisposable
{
    private readonly NativeBuffer<byte> _removed;

    private protected MipsIndex(NativeBuffer<byte>? removed = null) => _removed = removed ?? new NativeBuffer<byte>();

    /// <summary>The length of a vector.</summary>
    public abstract int Dimension { get; }

    /// <summary>Vectors added so far, the removed ones included.</summary>
    public int Count => (int)_removed.Length;

    /// <summary>Bytes that one vector takes.</summary>
    public abstract long BytesPerVector { get; }

    /// <summary>Adds vectors behind the others.</summary>
    /// <param name="vectors">[n, Dimension].</param>
    /// <exception cref="ArgumentException">The dimension is another.</exception>
    public void Add(Tensor vectors)
    {
        if (vectors.dim() != 2 || vectors.shape[1] != Dimension)
            throw new ArgumentException($"Vectors are [{string.Join(", ", vectors.shape)}], but the index holds [n, {Dimension}].", nameof(vectors));
        using var scope = NewDisposeScope();
        AddCore(TensorMemory.ToFloat32(vectors));
        _removed.Resize(Count + vectors.shape[0]);
    }

    /// <summary>Hides a vector from searches.</summary>
    /// <param name="position">Its position.</param>
    public void Remove(int position)
    {
        if (position < 0 || position >= Count) throw new ArgumentOutOfRangeException(nameof(position), position, $"Positions lie in 0..{Count - 1}.");
        if (_removed.IsMapped) _removed.Resize(Count);
        _removed[position] = 1;
    }

    /// <summary>The best vectors for each query.</summary>
    /// <param name="queries">[q, Dimension].</param>
    /// <param name="count">Vectors wanted for a query; fewer are returned where the index holds fewer.</param>
    /// <exception cref="ArgumentException">The dimension is another.</exception>
    public Neighbors[] Search(Tensor queries, int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        if (queries.dim() != 2 || queries.shape[1] != Dimension)
            throw new ArgumentException($"Queries are [{string.Join(", ", queries.shape)}], but the index holds [n, {Dimension}].", nameof(queries));
        using var scope = NewDisposeScope();
        return SearchCore(TensorMemory.ToFloat32(queries), Math.Min(count, Math.Max(1, Count)));
    }

    private protected abstract void AddCore(Tensor vectors);

    private protected abstract Neighbors[] SearchCore(Tensor queries, int count);

    private protected bool IsRemoved(int position) => _removed[position] != 0;

    internal NativeBuffer<byte> Removed => _removed;

    /// <summary>The arrays that hold the index, by file name.</summary>
    internal abstract IEnumerable<(string Name, Action<Stream> Write)> Files { get; }

    /// <summary>Frees the memory.</summary>
    public virtual void Dispose()
    {
        _removed.Dispose();
        GC.SuppressFinalize(this);
    }
}

/// <summary>The best <paramref name="capacity"/> of the pairs pushed, kept in a heap whose root is the worst.</summary>
internal sealed class TopK(int capacity)
{
    private readonly PriorityQueue<int, (float Score, int Position)> _heap = new(Comparer<(float Score, int Position)>.Create(
        (a, b) => a.Score != b.Score ? a.Score.CompareTo(b.Score) : b.Position.CompareTo(a.Position)));

    /// <summary>The score that a pair must reach to enter.</summary>
    public float Threshold { get; private set; } = float.NegativeInfinity;

    public void Push(int position, float score)
    {
        if (score < Threshold) return;
        if (_heap.Count < capacity) _heap.Enqueue(position, (score, position));
        else _heap.EnqueueDequeue(position, (score, position));
        if (_heap.Count == capacity && _heap.TryPeek(out _, out var worst)) Threshold = worst.Score;
    }

    public void Push(TopK other)
    {
        foreach (var (position, priority) in other._heap.UnorderedItems) Push(position, priority.Score);
    }

    public Neighbors Sorted()
    {
        var items = _heap.UnorderedItems.Select(item => item.Priority).OrderByDescending(item => item.Score).ThenBy(item => item.Position).ToArray();
        return new Neighbors([.. items.Select(item => item.Position)], [.. items.Select(item => item.Score)]);
    }
}
