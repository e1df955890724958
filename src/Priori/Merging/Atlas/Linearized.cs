using Priori.Nn;
using Priori.Training;
using TorchSharp.Modules;

namespace Priori.Merging;

/// <summary>
/// The first-order expansion of a model in its weights around theta_0, g(x; theta) = f(x; theta_0) + J (theta - theta_0) (Ortiz-Jimenez et al., NeurIPS 2023): fine-tuning it gives task vectors that interfere less.
/// The weights theta are this module's parameters; the model keeps theta_0.
/// </summary>
public sealed class LinearizedModel : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> _model;
    private readonly string[] _names;
    private readonly Parameter[] _anchors;

    /// <summary>Expands around the present weights; theta begins there.</summary>
    /// <param name="model">The model, twice differentiable in its weights. It stays the caller's and must not be changed.</param>
    public LinearizedModel(Module<Tensor, Tensor> model) : base(nameof(LinearizedModel))
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        (string Name, Parameter Parameter)[] trained = [.. model.named_parameters().Where(p => p.parameter.is_floating_point())];
        _names = [.. trained.Select(p => p.Name)];
        _anchors = [.. trained.Select(p => p.Parameter)];
        using var ungraphed = no_grad();
        for (int i = 0; i < _anchors.Length; i++) register_parameter($"theta{i}", new Parameter(_anchors[i].detach().clone().DetachFromDisposeScope()));
    }

    /// <summary>g(x; theta), without gradients; to learn, use <see cref="Loss"/>.</summary>
    /// <param name="input">Inputs of the model.</param>
    public override Tensor forward(Tensor input)
    {
        (Tensor output, Tensor change) = Linearization.Evaluate(_model, _anchors, Changes(), input);
        return (output + change).detach();
    }

    /// <summary>A loss of the expansion as a scalar whose gradient reaches theta: minimise it with any optimizer of <c>parameters()</c>.</summary>
    /// <param name="loss">Computes a scalar from g, which it may call several times.</param>
    public Tensor Loss(Func<Func<Tensor, Tensor>, Tensor> loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        (Tensor value, Tensor[] gradients) = Linearization.Differentiate(_model, _anchors, Changes(), loss);
        return Gradients.With(value, Theta, gradients);
    }

    /// <summary>theta under the names of the model's tensors, with the model's buffers: a checkpoint for <see cref="TaskVector.FromCheckpoints"/>.</summary>
    public Dictionary<string, Tensor> State()
    {
        using var ungraphed = no_grad();
        Dictionary<string, Tensor> state = _model.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());
        for (int i = 0; i < _names.Length; i++) state[_names[i]] = Theta[i].detach().clone();
        return state;
    }

    private Parameter[] Theta => [.. Enumerable.Range(0, _names.Length).Select(i => get_parameter($"theta{i}")!)];

    private Tensor[] Changes()
    {
        using var ungraphed = no_grad();
        return [.. Theta.Zip(_anchors, (theta, anchor) => theta - anchor)];
    }
}

/// <summary>
/// The composition of task vectors in the linearised model, g(x) = f(x; theta_0) + J sum_i Lambda_i tau_i (Zhang et al., sec. 3.2); the task vectors come from fine-tuning the linearised model.
/// The model keeps theta_0. <see cref="AnisotropicComposition.Fold"/> gives the weights theta_0 + sum_i Lambda_i tau_i, which are for the linearised model.
/// </summary>
public sealed class LinearizedComposition : AnisotropicComposition
{
    /// <summary>Begins at the base model: all coefficients are 0.</summary>
    /// <param name="model">The base model, twice differentiable in its weights; see <see cref="AnisotropicComposition"/>.</param>
    /// <param name="vectors">The task vectors.</param>
    /// <param name="granularity">What has a coefficient of its own.</param>
    /// <param name="matricesOnly">Whether tensors of one axis keep their base values.</param>
    /// <param name="seed">Seed of the random split for <see cref="Granularity.Partition"/>.</param>
    public LinearizedComposition(Module<Tensor, Tensor> model, IReadOnlyList<TaskVector> vectors, Granularity? granularity = null, bool matricesOnly = false, int seed = 0)
        : base(model, vectors, granularity, matricesOnly, seed)
    {
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        (Tensor output, Tensor change) = Linearization.Evaluate(Single, Parameters, Changes(), input);
        return (output + change).detach();
    }

    /// <summary>Does nothing: the model keeps theta_0, around which it is expanded.</summary>
    public override void Install()
    {
    }

    /// <inheritdoc/>
    public override Tensor Outputs(Tensor inputs, int batchSize = 256) => Inference.Outputs(Single, forward, inputs, batchSize);

    /// <inheritdoc/>
    public override Tensor Loss(Func<Func<Tensor, Tensor>, Tensor> loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        (Tensor value, Tensor[] gradients) = Linearization.Differentiate(Single, Parameters, Changes(), loss);
        foreach ((Parameter parameter, Tensor gradient) in Parameters.Zip(gradients)) parameter.grad = gradient;
        return Gradients.With(value, [Coefficients], [TakeGradient()]);
    }
}

/// <summary>f(x; theta_0), its directional derivative, and gradients through both.</summary>
internal static class Linearization
{
    /// <summary>f(x) with its graph, and J d.</summary>
    public static (Tensor Output, Tensor Change) Evaluate(Module<Tensor, Tensor> model, IReadOnlyList<Parameter> parameters, IReadOnlyList<Tensor> directions, Tensor input)
    {
        using var graphed = enable_grad();
        foreach (Parameter parameter in parameters) parameter.requires_grad = true;
        Tensor output = model.call(input);
        return (output, JacobianProducts.Jvp(output, parameters, directions).detach());
    }

    /// <summary>The value of a loss of g, and J^T dL/dg: its gradient with respect to the weights of the expansion.</summary>
    public static (Tensor Value, Tensor[] Gradients) Differentiate(Module<Tensor, Tensor> model, IReadOnlyList<Parameter> parameters, IReadOnlyList<Tensor> directions, Func<Func<Tensor, Tensor>, Tensor> loss)
    {
        using var graphed = enable_grad();
        List<(Tensor Output, Tensor Sum)> calls = [];
        Tensor value = loss(input =>
        {
            bool recorded = is_grad_enabled();
            (Tensor output, Tensor change) = Evaluate(model, parameters, directions, input);
            Tensor sum = (output + change).detach();
            if (recorded) calls.Add((output, sum.requires_grad_(true)));
            return sum;
        });
        Tensor[] gradients = [.. parameters.Select(p => zeros_like(p))];
        if (value.requires_grad && calls.Count > 0)
        {
            Tensor[] cotangents = Gradients.Of(value, [.. calls.Select(c => c.Sum)]);
            foreach ((Tensor output, Tensor cotangent) in calls.Select(c => c.Output).Zip(cotangents))
                gradients = [.. gradients.Zip(JacobianProducts.Vjp(output, parameters, cotangent), (sum, more) => sum + more)];
        }
        return (value.detach(), gradients);
    }
}
