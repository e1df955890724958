using System.Buffers;
using System.Numerics;
using System.Runtime.Intrinsics.X86;
using Priori.Numerics;
using TorchSharp.Modules;

namespace Priori.Training;

/// <summary>
/// An optimizer whose step costs as much as the batch, not as the table: of a parameter with a sparse gradient
/// (<c>nn.Embedding(sparse: true)</c>, <see cref="Nn.FieldEmbedding"/> with <c>sparse</c>) only the rows that occur in the batch
/// are read and written, their weights and their state alike; all other rows keep their bits. Gradients of a row that occurs several times are summed first.
/// A parameter with a dense gradient is updated as by the dense optimizer of that name, so that one optimizer can train a whole model.
/// </summary>
public abstract class RowwiseOptimizer : OptimizerHelper
{
    private const int PrefetchDistance = 16;

    private protected RowwiseOptimizer(IEnumerable<Parameter> parameters, double lr, double eps, double weightDecay)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentOutOfRangeException.ThrowIfNegative(eps);
        ArgumentOutOfRangeException.ThrowIfNegative(weightDecay);
        (Eps, WeightDecay) = (eps, weightDecay);
        _parameter_groups = [];
        add_param_group(new ParamGroup { Parameters = parameters, Options = new OptimizerOptions { LearningRate = lr } });
    }

    private protected double Eps { get; }

    private protected double WeightDecay { get; }

    /// <summary>Whether rows of float and double tables on the CPU are updated by one loop over their memory instead of tensor by tensor.</summary>
    internal bool Fused { get; init; } = true;

    /// <summary>Adds parameters, with a learning rate of their own if its options give one.</summary>
    /// <param name="param_group">The parameters; their learning rate is the first group's where none is given.</param>
    public override void add_param_group(ParamGroup param_group)
    {
        ArgumentNullException.ThrowIfNull(param_group);
        double lr = param_group.Options?.LearningRate ?? _parameter_groups[0].LearningRate;
        ArgumentOutOfRangeException.ThrowIfNegative(lr);
        param_group.Options = new OptimizerOptions { LearningRate = lr, InitialLearningRate = lr };
        param_group.Parameters = [.. param_group.Parameters]; // A state belongs to the very object.
        _parameter_groups.Add(param_group);
        foreach (Parameter parameter in param_group.Parameters) _state[parameter.Handle] = new RowState(parameter);
    }

    /// <summary>Forgets the gradients. They are dropped, not zeroed, which a table would make expensive.</summary>
    public override void zero_grad()
    {
        foreach (Parameter parameter in parameters()) parameter.grad = null;
    }

    /// <summary>One update of every parameter that has a gradient.</summary>
    /// <param name="closure">Computes the loss again; may be null.</param>
    /// <returns>The closure's loss, or null.</returns>
    public override Tensor step(Func<Tensor>? closure = null) => _step<ParamGroup>(group =>
    {
        foreach (Parameter parameter in group.Parameters)
        {
            if (parameter.grad is not { } gradient) continue;
            var state = (RowState)_state[parameter.Handle];
            state.Step++;
            if (gradient.is_sparse)
            {
                UpdateRows(parameter, gradient, state, group.LearningRate);
                continue;
            }
            Tensor flat = parameter.view(Shape(parameter.numel()));
            Update(flat, gradient.reshape(flat.shape), state.Values(this, flat.shape, parameter), state.Step, group.LearningRate);
        }
    }, closure);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (!disposing) return;
        foreach ((_, OptimizerState state) in _state) ((RowState)state).Dispose();
    }

    /// <summary>A dense parameter as rows: the shape [rows, dim] in which <see cref="Update"/> is the dense optimizer.</summary>
    private protected abstract long[] Shape(long elements);

    /// <summary>Numbers of state of a row of <paramref name="dim"/> weights.</summary>
    private protected abstract long StateWidth(long dim);

    /// <summary>Updates whole rows in place: weights [n, dim], gradients [n, dim], state [n, <see cref="StateWidth"/>].</summary>
    private protected abstract void Update(Tensor weights, Tensor gradients, Tensor state, long step, double lr);

    /// <summary>The same for the named rows of tables in memory; the gradients [rows, dim] may be overwritten.</summary>
    private protected abstract unsafe void Update<T>(T* weights, T* gradients, T* state, ReadOnlySpan<long> rows, int dim, long step, double lr)
        where T : unmanaged, IFloatingPointIeee754<T>;

    /// <summary>Asks for the memory of the row that comes up in a while: a row of a large table is in no cache.</summary>
    private protected static unsafe void Prefetch<T>(T* table, ReadOnlySpan<long> rows, int i, int width) where T : unmanaged
    {
        if (!Sse.IsSupported || i + PrefetchDistance >= rows.Length) return;
        byte* row = (byte*)(table + (rows[i + PrefetchDistance] * width));
        for (int at = 0; at < width * sizeof(T); at += 64) Sse.Prefetch0(row + at);
    }

    private void UpdateRows(Parameter table, Tensor gradient, RowState state, double lr)
    {
        Tensor indices = gradient.SparseIndices, values = gradient.SparseValues;
        if (indices.size(0) != 1) throw new ArgumentException($"The sparse gradient has {indices.size(0)} sparse dimensions; row-wise updates need 1, the rows.", nameof(gradient));
        long dim = table.numel() / table.size(0);
        Tensor weights = table.view(-1, dim), all = state.Values(this, weights.shape, table);
        if (values.size(0) == 0) return;
        values = values.reshape(-1, dim);
        if (Fused && table.device_type == DeviceType.CPU && table.is_contiguous())
        {
            if (table.dtype == ScalarType.Float32)
            {
                UpdateRows<float>(weights, indices, values, all, (int)dim, state.Step, lr);
                return;
            }
            if (table.dtype == ScalarType.Float64)
            {
                UpdateRows<double>(weights, indices, values, all, (int)dim, state.Step, lr);
                return;
            }
        }
        (Tensor rows, Tensor sums) = SparseRows.Sum(indices, values);
        Tensor some = weights.index_select(0, rows), theirs = all.index_select(0, rows);
        Update(some, sums, theirs, state.Step, lr);
        weights.index_copy_(0, rows, some);
        all.index_copy_(0, rows, theirs);
    }

    private unsafe void UpdateRows<T>(Tensor weights, Tensor indices, Tensor values, Tensor state, int dim, long step, double lr)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        (indices, values) = (indices.contiguous(), values.contiguous());
        int count = checked((int)indices.numel());
        long[] rows = ArrayPool<long>.Shared.Rent(count);
        T[] sums = ArrayPool<T>.Shared.Rent(checked(count * dim));
        int distinct = SparseRows.Sum(TensorMemory.Pointer<long>(indices), TensorMemory.Pointer<T>(values), count, dim, rows, sums);
        fixed (T* gradients = sums)
            Update(TensorMemory.Pointer<T>(weights), gradients, TensorMemory.Pointer<T>(state), rows.AsSpan(0, distinct), dim, step, lr);
        ArrayPool<long>.Shared.Return(rows);
        ArrayPool<T>.Shared.Return(sums);
    }

    /// <summary>Steps so far and, from the first gradient on, the state of all rows [rows, width].</summary>
    private sealed class RowState(Parameter parameter) : OptimizerState(parameter), IDisposable
    {
        private Tensor? _values;

        public long Step { get; set; }

        public Tensor Values(RowwiseOptimizer optimizer, long[] shape, Tensor like)
        {
            long[] own = [shape[0], optimizer.StateWidth(shape[1])];
            _values ??= zeros(own, like.dtype, like.device).DetachFromDisposeScope();
            return _values.shape.AsSpan().SequenceEqual(own)
                ? _values
                : throw new InvalidOperationException("A parameter had sparse gradients in some steps and dense ones in others; a row-wise optimizer keeps another state for each.");
        }

        public override void Initialize(OptimizerOptions options)
        {
            _values?.Dispose();
            (_values, Step) = (null, 0);
        }

        public override void SaveStateDict(BinaryWriter writer)
        {
            writer.Write(Step);
            SaveConditionalStateTensor(writer, _values);
        }

        public override void LoadStateDict(BinaryReader reader)
        {
            Initialize(new OptimizerOptions());
            Step = reader.ReadInt64();
            LoadConditionalStateTensor(reader, ref _values, _parameter.device);
            _values?.DetachFromDisposeScope();
        }

        public override void LoadStateDict(OptimizerState source)
        {
            var other = (RowState)source;
            _values?.Dispose();
            (Step, _values) = (other.Step, other._values?.to(_parameter.device, copy: true).DetachFromDisposeScope());
        }

        public override void to(Device device) => _values = _values?.to(device, disposeAfter: true).DetachFromDisposeScope();

        public void Dispose() => _values?.Dispose();
    }
}
