namespace Priori.Nn;

/// <summary>Running a trained network over many inputs.</summary>
public static class Inference
{
    /// <summary>Outputs for all inputs, batch by batch, in evaluation mode and without a graph. The mode of the model is put back afterwards.</summary>
    /// <param name="model">The network.</param>
    /// <param name="inputs">Inputs [n, ...], n at least 1; each batch is moved to the device of the model's parameters.</param>
    /// <param name="batchSize">Inputs a batch, at least 1.</param>
    /// <returns>Outputs [n, ...] on the device of the inputs.</returns>
    /// <exception cref="ArgumentException">There are no inputs.</exception>
    public static Tensor Outputs(Module<Tensor, Tensor> model, Tensor inputs, int batchSize = 256)
    {
        ArgumentNullException.ThrowIfNull(model);
        return Outputs(model, model.call, inputs, batchSize);
    }

    /// <summary>What a function of the network gives for all inputs, for example a hidden layer (<see cref="Network.Evaluate(Tensor, string)"/>), as <see cref="Outputs(Module{Tensor, Tensor}, Tensor, int)"/>.</summary>
    /// <param name="model">The network.</param>
    /// <param name="forward">Its function of one batch.</param>
    /// <param name="inputs">Inputs [n, ...], n at least 1.</param>
    /// <param name="batchSize">Inputs a batch, at least 1.</param>
    /// <exception cref="ArgumentException">There are no inputs.</exception>
    public static Tensor Outputs(Module model, Func<Tensor, Tensor> forward, Tensor inputs, int batchSize = 256)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(forward);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 1);
        if (inputs.dim() == 0 || inputs.shape[0] == 0) throw new ArgumentException("There are no inputs.", nameof(inputs));
        using var ungraphed = no_grad();
        Device device = model.parameters().FirstOrDefault()?.device ?? inputs.device;
        bool training = model.training;
        model.eval();
        try
        {
            var outputs = new List<Tensor>();
            using var scope = NewDisposeScope();
            for (long start = 0; start < inputs.shape[0]; start += batchSize)
            {
                using var batch = NewDisposeScope();
                Tensor x = inputs.narrow(0, start, Math.Min(batchSize, inputs.shape[0] - start)).to(device);
                outputs.Add(forward(x).to(inputs.device).MoveToOuterDisposeScope());
            }
            return (outputs.Count == 1 ? outputs[0] : cat(outputs, 0)).MoveToOuterDisposeScope();
        }
        finally
        {
            model.train(training);
        }
    }
}
