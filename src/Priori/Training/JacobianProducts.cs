namespace Priori.Training;

/// <summary>
/// Products with the Jacobian J = d output / d inputs, and with second derivatives, of values that are already computed: nothing is run again.
/// Forward products are two reverse passes (Townsend, 2017): J^T u is linear in u, so its derivative with respect to u along v is J v.
/// Layers whose backward has no derivative of its own (fused attention, <c>grid_sample</c>, <c>cdist</c>) allow only <see cref="Vjp"/> and <see cref="Rows(Tensor, IReadOnlyList{Tensor})"/>.
/// The graph is kept, so several products of one output can be taken; results follow the dtype and device of the values.
/// </summary>
public static class JacobianProducts
{
    /// <summary>u^T J: the gradient of sum(output * cotangent) with respect to each input.</summary>
    /// <param name="output">Any shape, computed from the inputs.</param>
    /// <param name="inputs">Tensors of its graph that require gradients.</param>
    /// <param name="cotangent">u, of the shape of the output.</param>
    /// <param name="createGraph">Whether the result can be differentiated again.</param>
    /// <returns>One tensor of the shape of each input; zeros for an input that the output does not depend on.</returns>
    /// <exception cref="ArgumentException">The output or an input does not require gradients, or shapes differ.</exception>
    public static Tensor[] Vjp(Tensor output, IReadOnlyList<Tensor> inputs, Tensor cotangent, bool createGraph = false)
    {
        ArgumentNullException.ThrowIfNull(cotangent);
        Check(output, inputs);
        CheckShape(cotangent, output, "The cotangent", "the output", nameof(cotangent));
        Tensor[] products = [.. autograd.grad([output], [.. inputs], [cotangent], retain_graph: true, create_graph: createGraph, allow_unused: true)];
        for (int i = 0; i < products.Length; i++)
            if (products[i] is null || products[i].IsInvalid) products[i] = zeros_like(inputs[i]);
        return products;
    }

    /// <summary>J v: the derivative of the output when the inputs move along the tangents.</summary>
    /// <param name="output">Any shape, computed from the inputs by operations that can be differentiated twice.</param>
    /// <param name="inputs">Tensors of its graph that require gradients.</param>
    /// <param name="tangents">v, one tensor of the shape of each input.</param>
    /// <param name="createGraph">Whether the result can be differentiated again.</param>
    /// <returns>A tensor of the shape of the output.</returns>
    /// <exception cref="ArgumentException">The output or an input does not require gradients, or numbers or shapes differ.</exception>
    public static Tensor Jvp(Tensor output, IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor> tangents, bool createGraph = false)
    {
        CheckTangents(inputs, tangents);
        Check(output, inputs);
        Tensor dual = zeros_like(output).requires_grad_(true);
        Tensor[] transposed = Vjp(output, inputs, dual, createGraph: true);
        Tensor[] dependent = [.. transposed.Where(t => t.requires_grad)];
        if (dependent.Length == 0) return zeros_like(output);
        Tensor inner = transposed.Zip(tangents).Where(p => p.First.requires_grad).Select(p => (p.First * p.Second).sum()).Aggregate((a, b) => a + b);
        return Vjp(inner, [dual], ones_like(inner), createGraph)[0];
    }

    /// <summary>H v: the product with the Hessian of a scalar.</summary>
    /// <param name="loss">A scalar, computed from the inputs by operations that can be differentiated twice.</param>
    /// <param name="inputs">Tensors of its graph that require gradients.</param>
    /// <param name="tangents">v, one tensor of the shape of each input.</param>
    /// <returns>One tensor of the shape of each input; zeros where the loss is linear.</returns>
    /// <exception cref="ArgumentException">The loss is no scalar, it or an input does not require gradients, or numbers or shapes differ.</exception>
    public static Tensor[] HessianVector(Tensor loss, IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor> tangents)
    {
        CheckTangents(inputs, tangents);
        Check(loss, inputs);
        if (loss.numel() != 1) throw new ArgumentException($"A Hessian belongs to a scalar; this loss is [{string.Join(", ", loss.shape)}].", nameof(loss));
        Tensor[] gradients = Vjp(loss, inputs, ones_like(loss), createGraph: true);
        Tensor[] products = [.. gradients.Zip(tangents).Where(p => p.First.requires_grad).Select(p => (p.First * p.Second).sum())];
        if (products.Length == 0) return [.. inputs.Select(i => zeros_like(i))];
        Tensor inner = products.Aggregate((a, b) => a + b);
        return Vjp(inner, inputs, ones_like(inner));
    }

    /// <summary>J^T H_L J v: the product with the generalised Gauss-Newton matrix (Schraudolph, Neural Computation 2002), positive semidefinite for convex losses.</summary>
    /// <param name="output">The network's output, any shape.</param>
    /// <param name="inputs">Tensors of its graph that require gradients, for example the weights.</param>
    /// <param name="tangents">v, one tensor of the shape of each input.</param>
    /// <param name="outputHessian">The product of the loss's Hessian with respect to the output with a vector of the output's shape; null: the identity, as for half the squared error.</param>
    /// <returns>One tensor of the shape of each input.</returns>
    /// <exception cref="ArgumentException">The output or an input does not require gradients, or numbers or shapes differ.</exception>
    public static Tensor[] GaussNewtonVector(Tensor output, IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor> tangents, Func<Tensor, Tensor>? outputHessian = null)
    {
        Tensor forward = Jvp(output, inputs, tangents);
        return Vjp(output, inputs, outputHessian is null ? forward : outputHessian(forward));
    }

    /// <summary>The whole Jacobian, row by row: row k is the gradient of the k-th number of the output.</summary>
    /// <param name="output">m numbers in any shape.</param>
    /// <param name="inputs">Tensors of its graph that require gradients, with d numbers together.</param>
    /// <returns>J [m, d], the inputs flattened and put one after another.</returns>
    /// <exception cref="ArgumentException">The output or an input does not require gradients.</exception>
    public static Tensor Rows(Tensor output, IReadOnlyList<Tensor> inputs)
    {
        Check(output, inputs);
        Tensor flat = output.reshape(-1);
        long count = flat.shape[0];
        Tensor jacobian = empty([count, inputs.Sum(i => i.numel())], output.dtype, output.device);
        for (long k = 0; k < count; k++)
        {
            using var scope = NewDisposeScope();
            jacobian[k] = cat([.. Vjp(flat[k], inputs, ones_like(flat[k])).Select(g => g.reshape(-1))], 0);
        }
        return jacobian;
    }

    /// <summary>
    /// The Jacobian of each row of a batch: the rows of the output depend on the rows of the input with the same index only, so that one reverse pass for each
    /// output coordinate serves the whole batch.
    /// </summary>
    /// <param name="output">[n, ...], m numbers a row.</param>
    /// <param name="input">[n, ...], d numbers a row, of the output's graph; requires gradients.</param>
    /// <returns>J [n, m, d].</returns>
    /// <exception cref="ArgumentException">The output or input does not require gradients, or they have different numbers of rows.</exception>
    public static Tensor PerRow(Tensor output, Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Check(output, [input]);
        if (output.dim() == 0 || input.dim() == 0 || output.shape[0] != input.shape[0])
            throw new ArgumentException($"Output [{string.Join(", ", output.shape)}] and input [{string.Join(", ", input.shape)}] must have as many rows.", nameof(output));
        Tensor flat = output.reshape(output.shape[0], -1);
        return stack([.. Enumerable.Range(0, (int)flat.shape[1]).Select(k => Column(flat, input, k))], 1);
    }

    /// <summary>The gradient of output coordinate k of every row with respect to the same row of the input.</summary>
    private static Tensor Column(Tensor flat, Tensor input, long k)
    {
        using var scope = NewDisposeScope();
        Tensor column = flat.select(1, k);
        return Vjp(column, [input], ones_like(column))[0].reshape(input.shape[0], -1).MoveToOuterDisposeScope();
    }

    private static void Check(Tensor output, IReadOnlyList<Tensor> inputs)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(inputs);
        if (inputs.Count == 0) throw new ArgumentException("At least one input is needed.", nameof(inputs));
        if (!output.requires_grad) throw new ArgumentException("The output depends on nothing that requires gradients.", nameof(output)); // libtorch would end the process
        if (inputs.Any(i => !i.requires_grad)) throw new ArgumentException("Every input must require gradients.", nameof(inputs));
    }

    private static void CheckTangents(IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor> tangents)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(tangents);
        if (inputs.Count != tangents.Count) throw new ArgumentException($"{tangents.Count} tangents for {inputs.Count} inputs.", nameof(tangents));
        for (int i = 0; i < inputs.Count; i++) CheckShape(tangents[i], inputs[i], $"Tangent {i}", "its input", nameof(tangents));
    }

    private static void CheckShape(Tensor given, Tensor wanted, string what, string of, string parameter)
    {
        if (!given.shape.AsSpan().SequenceEqual(wanted.shape))
            throw new ArgumentException($"{what} is [{string.Join(", ", given.shape)}], but {of} is [{string.Join(", ", wanted.shape)}].", parameter);
        if (given.dtype != wanted.dtype || given.device_type != wanted.device_type)
            throw new ArgumentException($"{what} is {given.dtype} on {given.device}, but {of} is {wanted.dtype} on {wanted.device}.", parameter);
    }
}
