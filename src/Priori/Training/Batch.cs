namespace Priori.Training;

/// <summary>One batch: the stable ids of its rows and the data columns of those rows, on the trainer's device.</summary>
/// <param name="Rows">Row ids in the source, int64 [batch].</param>
/// <param name="Columns">The columns, each [batch, ...].</param>
public sealed record Batch(Tensor Rows, IReadOnlyList<Tensor> Columns)
{
    /// <summary>Column <paramref name="i"/>, [batch, ...].</summary>
    /// <param name="i">Index of the column.</param>
    public Tensor this[int i] => Columns[i];
}

/// <summary>Rows that can be fetched by index.</summary>
public interface IBatchSource
{
    /// <summary>Number of rows.</summary>
    long Count { get; }

    /// <summary>The batch of the given rows.</summary>
    /// <param name="rows">Row ids, int64 [batch], on the CPU.</param>
    /// <param name="device">Where the batch goes.</param>
    Batch Get(Tensor rows, Device device);
}

/// <summary>Columns held in memory, on any device; a batch is one index_select a column.</summary>
public sealed class TensorSource : IBatchSource
{
    private readonly Tensor[] _columns;

    /// <summary>A source over columns with the same first dimension. The tensors stay the caller's.</summary>
    /// <param name="columns">Columns [rows, ...].</param>
    /// <exception cref="ArgumentException">There is no column, or their row counts differ.</exception>
    public TensorSource(params Tensor[] columns)
    {
        ArgumentNullException.ThrowIfNull(columns);
        if (columns.Length == 0) throw new ArgumentException("At least one column is needed.", nameof(columns));
        if (columns.Any(c => c.dim() == 0 || c.shape[0] != columns[0].shape[0]))
            throw new ArgumentException($"All columns must have the same number of rows; got {string.Join(", ", columns.Select(c => $"[{string.Join(",", c.shape)}]"))}.", nameof(columns));
        _columns = columns;
    }

    /// <inheritdoc/>
    public long Count => _columns[0].shape[0];

    /// <inheritdoc/>
    public Batch Get(Tensor rows, Device device)
    {
        ArgumentNullException.ThrowIfNull(rows);
        Tensor moved = rows.to(device);
        var columns = new Tensor[_columns.Length];
        for (int c = 0; c < columns.Length; c++)
        {
            Tensor column = _columns[c];
            columns[c] = column.device_type == moved.device_type ? column.index_select(0, moved) : column.index_select(0, rows).to(device);
        }
        return new Batch(moved, columns);
    }
}
