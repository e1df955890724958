namespace Priori.ClickThrough;

/// <summary>
/// How much the features of a shared table disturb each other (Coleman et al., NeurIPS 2023, sec. 4). A row that values of two features hit gets gradients along
/// the weights of both; where these weights are orthogonal, the model behind reads each feature's part without the other's.
/// </summary>
public static class InterferenceReport
{
    /// <summary>Cosines between the blocks theta_t of a first layer: the columns of each feature, as one vector.</summary>
    /// <param name="firstLayerWeight">Weight of the first layer over the concatenated embeddings, [outputs, fields * blockWidth].</param>
    /// <param name="blockWidth">Width d of a field, at least 1.</param>
    /// <returns>Cosines float64 [fields, fields] on the CPU; a block of zeros has cosine 0 with the others.</returns>
    /// <exception cref="ArgumentException">The weight is no matrix whose columns are whole blocks.</exception>
    public static Tensor BlockCosines(Tensor firstLayerWeight, long blockWidth)
    {
        ArgumentNullException.ThrowIfNull(firstLayerWeight);
        ArgumentOutOfRangeException.ThrowIfLessThan(blockWidth, 1);
        if (firstLayerWeight.dim() != 2 || firstLayerWeight.size(1) % blockWidth != 0)
            throw new ArgumentException($"The weight must be [outputs, fields * {blockWidth}], not [{string.Join(", ", firstLayerWeight.shape)}].", nameof(firstLayerWeight));
        using DisposeScope scope = NewDisposeScope();
        Tensor blocks = firstLayerWeight.detach().cpu().to(ScalarType.Float64).view(firstLayerWeight.size(0), -1, blockWidth).transpose(0, 1).flatten(1);
        Tensor unit = blocks / blocks.norm(1, keepdim: true, p: 2).clamp_min(1e-300);
        return unit.matmul(unit.t()).MoveToOuterDisposeScope();
    }

    /// <summary>Mean |cosine| of two different features: 1 is full interference, 0 none.</summary>
    /// <param name="cosines">From <see cref="BlockCosines"/>, [fields, fields].</param>
    public static double MeanAbsolute(Tensor cosines)
    {
        ArgumentNullException.ThrowIfNull(cosines);
        using DisposeScope scope = NewDisposeScope();
        long fields = cosines.size(0);
        return fields < 2 ? 0 : cosines.abs().triu(1).sum().ToDouble() / (fields * (fields - 1) / 2);
    }

    /// <summary>Mean squared norm of rows; it grows as about N / M when N values share M rows.</summary>
    /// <param name="rows">Rows of the table, such as those in use, [rows, d].</param>
    public static double MeanSquaredNorm(Tensor rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        using DisposeScope scope = NewDisposeScope();
        return rows.detach().to(ScalarType.Float64).square().sum().ToDouble() / rows.size(0);
    }
}
