using TorchSharp.Modules;

namespace Priori.Merging;

/// <summary>
/// Re-estimates the running statistics of batch normalisation (Jordan et al., REPAIR, ICLR 2023, section 4): averaged weights change the scale of
/// activations, so statistics of the original networks no longer fit. Plain averages over batches replace them; nothing else changes.
/// </summary>
public static class BatchNormReset
{
    /// <summary>Resets and re-estimates all batch normalisations of a network, which is left in evaluation mode.</summary>
    /// <param name="model">The network.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...]; domains are mixed in every batch.</param>
    /// <param name="batchSize">Inputs a batch, at least 2.</param>
    /// <param name="maxBatches">Most batches used; 100 in the published code.</param>
    /// <param name="seed">Seed of the order of the inputs.</param>
    /// <returns>The number of layers that were reset; without any, no forward pass is made.</returns>
    /// <exception cref="ArgumentException">There are no inputs.</exception>
    public static int Run(Module<Tensor, Tensor> model, Tensor inputs, int batchSize = 32, int maxBatches = 100, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 2);
        Calibration.Require(inputs, "Resetting batch normalisation");
        NormBase[] norms = [.. model.modules().OfType<NormBase>().Where(n => n.track_running_stats)];
        model.eval();
        if (norms.Length == 0) return 0;
        double?[] momenta = [.. norms.Select(n => n.momentum)];
        foreach (NormBase norm in norms)
        {
            norm.reset_running_stats();
            norm.momentum = null; // a cumulative average
            norm.train();
        }
        using (no_grad())
            foreach (long[] rows in Calibration.Batches(inputs.shape[0], batchSize, maxBatches, seed))
            {
                using var scope = NewDisposeScope();
                model.call(inputs.index_select(0, tensor(rows, device: inputs.device)));
            }
        for (int i = 0; i < norms.Length; i++) norms[i].momentum = momenta[i];
        model.eval();
        return norms.Length;
    }
}
