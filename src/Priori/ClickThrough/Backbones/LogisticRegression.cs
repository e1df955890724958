namespace Priori.ClickThrough;

/// <summary>Logistic regression over fields: logit = b + sum_j value_j * w[id_j]. The first-order baseline of click-through models.</summary>
public sealed class LogisticRegression : Backbone
{
    private readonly TorchSharp.Modules.Parameter bias;

    /// <summary>Creates the model; it takes one number of each field for each output.</summary>
    /// <param name="options">Fields and outputs.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is less than 1.</exception>
    public LogisticRegression(BackboneOptions options) : base(nameof(LogisticRegression), options, options?.Outputs ?? 0)
    {
        bias = Parameter(zeros(Options.Outputs));
        RegisterComponents();
    }

    /// <inheritdoc/>
    protected override Tensor Logits(Tensor e) => e.sum(1) + bias;
}
