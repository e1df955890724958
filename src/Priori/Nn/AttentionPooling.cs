namespace Priori.Nn;

/// <summary>Self-attention pooling of a sequence (Lin et al., ICLR 2017, one hop): weights a = softmax(w^T tanh(W h)) over the real entries, result sum of a h. An empty sequence gives 0.</summary>
public sealed class AttentionPooling : Module<Tensor, Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> hidden, score;

    /// <summary>Creates the layer.</summary>
    /// <param name="dim">Width of the entries.</param>
    /// <param name="attention">Width of W h; <paramref name="dim"/> when null.</param>
    public AttentionPooling(long dim, long? attention = null) : base(nameof(AttentionPooling))
    {
        hidden = nn.Linear(dim, attention ?? dim);
        score = nn.Linear(attention ?? dim, 1, hasBias: false);
        RegisterComponents();
    }

    /// <summary>Pooled entries [n, dim].</summary>
    /// <param name="x">Entries [n, length, dim].</param>
    /// <param name="mask">Which entries are real, bool [n, length].</param>
    public override Tensor forward(Tensor x, Tensor mask)
    {
        using var scope = NewDisposeScope();
        Tensor weights = Masked.Softmax(score.forward(hidden.forward(x).tanh()).squeeze(-1), mask);
        return weights.unsqueeze(1).matmul(x).squeeze(1).MoveToOuterDisposeScope();
    }
}
