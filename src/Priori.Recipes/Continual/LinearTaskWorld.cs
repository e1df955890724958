using Priori.Continual;
using Priori.Runtime;

namespace Priori.Recipes.Continual;

/// <summary>
/// Linear tasks with a planted relevance: y = x B w_m + noise with x ~ N(0, I) and noise of variance 1, B [d, k] orthonormal, W [k, M] of random directions of length 1, the planted columns 0, 1, 2 of length 3, and the target
/// w = W s / |W s| with s = (.4, -.4, .4, 0, ...). Row i of a task is the same for every strategy.
/// </summary>
internal sealed class LinearTaskWorld : IDisposable
{
    public const int Planted = 3;
    private const int BlockRows = 256;
    private static readonly double[] s_mixture = [.4, -.4, .4];
    private readonly Generator[] _generators;
    private readonly List<Tensor>[] _blocks;

    public LinearTaskWorld(int inputs, int dim, int tasks, int seed)
    {
        using var generator = new Generator((ulong)Seeds.Derive(seed, 0x4C54));
        using DisposeScope scope = NewDisposeScope();
        Basis = linalg.qr(randn([inputs, dim], float64, generator: generator)).Q.MoveToOuterDisposeScope();
        Tensor heads = randn([dim, tasks], float64, generator: generator);
        heads = heads / heads.norm(0, keepdim: true);
        heads.narrow(1, 0, Planted).mul_(3);
        Tensor target = heads.narrow(1, 0, Planted).mv(tensor(s_mixture));
        (Heads, Target) = (heads.MoveToOuterDisposeScope(), (target / target.norm()).MoveToOuterDisposeScope());
        (Tasks, Seed) = (tasks, seed);
        _generators = [.. Enumerable.Range(0, tasks + 1).Select(m => new Generator((ulong)Seeds.Derive(seed, 0x524F, m)))];
        _blocks = [.. _generators.Select(_ => new List<Tensor>())];
    }

    public int Tasks { get; }

    public int Seed { get; }

    /// <summary>B [d, k].</summary>
    public Tensor Basis { get; }

    /// <summary>W [k, M].</summary>
    public Tensor Heads { get; }

    /// <summary>w [k].</summary>
    public Tensor Target { get; }

    /// <summary>The target's parameter B w [d].</summary>
    public Tensor Parameter => Basis.mv(Target);

    /// <summary>Rows of a task, from a row on; task M is the target.</summary>
    public TaskBatch Rows(int task, long from, long count)
    {
        using var outer = NewDisposeScope();
        long d = Basis.shape[0];
        List<Tensor> blocks = _blocks[task];
        while ((long)blocks.Count * BlockRows < from + count) blocks.Add(randn([BlockRows, d + 1], float64, generator: _generators[task]).DetachFromDisposeScope());
        int first = (int)(from / BlockRows), last = (int)((from + count - 1) / BlockRows);
        Tensor rows = cat([.. blocks.Skip(first).Take(last - first + 1)]).narrow(0, from - ((long)first * BlockRows), count);
        Tensor inputs = rows.narrow(1, 0, d).contiguous(), parameter = Basis.mv(task == Tasks ? Target : Heads.select(1, task));
        return new TaskBatch(inputs.MoveToOuterDisposeScope(), (inputs.mv(parameter) + rows.select(1, d)).MoveToOuterDisposeScope());
    }

    public void Dispose()
    {
        foreach (Tensor block in _blocks.SelectMany(b => b)) block.Dispose();
        foreach (Generator generator in _generators) generator.Dispose();
        Basis.Dispose();
        Heads.Dispose();
        Target.Dispose();
    }
}

/// <summary>Labels of a <see cref="LinearTaskWorld"/>, without end.</summary>
internal sealed class LinearTaskOracle(LinearTaskWorld world) : ILabelOracle
{
    private readonly long[] _given = new long[world.Tasks];

    public int Tasks => world.Tasks;

    public long Available(int task) => long.MaxValue;

    public TaskBatch Query(int task, long count)
    {
        TaskBatch rows = world.Rows(task, _given[task], count);
        _given[task] += count;
        return rows;
    }
}
