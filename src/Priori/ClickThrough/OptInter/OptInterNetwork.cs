using Priori.Nn;
using TorchSharp.Modules;

namespace Priori.ClickThrough;

/// <summary>
/// What the search model and the final model of OptInter (Lyu et al., ICDE 2022, sec. III) share: the original embeddings e_f = value_f E[id_f], memorized pairs C[combination],
/// factorized pairs of a table A of their own, A[id_i] * A[id_j], and the classifier on all of them, [Linear, LayerNorm, ReLU] a hidden width.
/// </summary>
public abstract class OptInterNetwork : Module<Tensor, Tensor, Tensor>
{
    private protected OptInterNetwork(string name, OptInterOptions options) : base(name) => Options = options.Checked();

    /// <summary>The options.</summary>
    public OptInterOptions Options { get; }

    /// <summary>Parameters that only interactions have: the memorized pairs and the factors. Weight decay is on these.</summary>
    public abstract IEnumerable<Parameter> CrossParameters { get; }

    /// <summary>Parameters of the architecture, if it is searched for.</summary>
    public virtual IEnumerable<Parameter> ArchParameters => [];

    private protected Mlp Classifier(long interactions)
        => new(Options.Fields * Options.OriginalDim + interactions * Options.CrossDim, Options.Hidden, Options.Outputs, normalization: Normalization.LayerNorm, dropout: Options.Dropout);

    /// <summary>Factorized interactions [batch, pairs, s2] of factors [batch, fields, s2].</summary>
    private protected Tensor Factorize(Tensor factors, Tensor firsts, Tensor seconds)
    {
        Tensor a = factors.index_select(1, firsts), b = factors.index_select(1, seconds);
        return Options.Factorization switch
        {
            Factorization.Sum => a + b,
            Factorization.InnerProduct => (a * b).sum(-1, keepdim: true).expand(-1, -1, Options.CrossDim),
            _ => a * b,
        };
    }

    private protected void RegisterPairs(string name, IReadOnlyList<FieldPair> pairs)
    {
        register_buffer($"{name}_first", tensor(pairs.Select(p => (long)p.First).ToArray()).DetachFromDisposeScope(), persistent: false);
        register_buffer($"{name}_second", tensor(pairs.Select(p => (long)p.Second).ToArray()).DetachFromDisposeScope(), persistent: false);
    }
}

/// <summary>
/// The model that OptInter searches with (sec. III-D): the interaction of pair p is the mixture w_m e^m + w_f e^f + w_n 0 with w = softmax(alpha_p / tau).
/// The naive term matters: it takes weight from the others. Embeddings are initialised standard normal, linear layers by PyTorch's default, alpha Xavier normal, as in the authors' code.
/// </summary>
public sealed class OptInterSearchModel : OptInterNetwork
{
    private readonly FieldEmbedding original;
    private readonly Embedding memorized, factors;
    private readonly CrossVocabulary vocabulary;
    private readonly Parameter alpha;
    private readonly Mlp classifier;

    /// <summary>Creates the model; it owns the vocabulary.</summary>
    /// <param name="options">The network.</param>
    /// <param name="vocabulary">The combinations of the training rows; its pairs are searched.</param>
    /// <param name="relaxation">How architecture parameters become weights.</param>
    /// <exception cref="ArgumentException">A size is outside its range or the vocabulary has other ids or fields.</exception>
    public OptInterSearchModel(OptInterOptions options, CrossVocabulary vocabulary, Relaxation relaxation = Relaxation.AnnealedSoftmax) : base(nameof(OptInterSearchModel), options)
    {
        ArgumentNullException.ThrowIfNull(vocabulary);
        if (vocabulary.Ids != options.Ids || vocabulary.Pairs.Any(p => p.Second >= options.Fields))
            throw new ArgumentException($"The vocabulary is of {vocabulary.Ids} ids, the network has {options.Ids} and {options.Fields} fields.", nameof(vocabulary));
        (this.vocabulary, Relaxation) = (vocabulary, relaxation);
        original = new FieldEmbedding(options.Fields, options.Ids, options.OriginalDim);
        init.normal_(original.Weight);
        memorized = nn.Embedding(vocabulary.Rows, options.CrossDim);
        factors = nn.Embedding(options.Ids, options.CrossDim);
        alpha = Parameter(init.xavier_normal_(empty(vocabulary.Pairs.Count, 3)));
        classifier = Classifier(vocabulary.Pairs.Count);
        RegisterPairs("pair", vocabulary.Pairs);
        RegisterComponents();
    }

    /// <summary>The combinations.</summary>
    public CrossVocabulary Vocabulary => vocabulary;

    /// <summary>How architecture parameters become weights.</summary>
    public Relaxation Relaxation { get; }

    /// <summary>The temperature tau, above 0; a learner lowers it step by step.</summary>
    public double Temperature { get; set; } = 1;

    /// <summary>Architecture parameters [pairs, 3], columns in the order of <see cref="InteractionMethod"/>.</summary>
    public Parameter Alpha => alpha;

    /// <inheritdoc/>
    public override IEnumerable<Parameter> CrossParameters => [memorized.weight!, factors.weight!];

    /// <inheritdoc/>
    public override IEnumerable<Parameter> ArchParameters => [alpha];

    /// <summary>The plan of the architecture parameters.</summary>
    public InteractionPlan Plan() => InteractionPlan.From(vocabulary.Pairs, alpha);

    /// <summary>Weights of the methods, [pairs, 3].</summary>
    public Tensor Weights()
    {
        Tensor logits = alpha;
        if (Relaxation == Relaxation.GumbelSoftmax && training) logits = logits - rand_like(logits).clamp_min(1e-20).log().neg().clamp_min(1e-20).log();
        return (logits / Temperature).softmax(1);
    }

    /// <summary>Interactions [batch, pairs, s2] of memorized and factorized ones, both [batch, pairs, s2], under weights [pairs, 3].</summary>
    /// <param name="memorized">e^m.</param>
    /// <param name="factorized">e^f.</param>
    /// <param name="weights">w.</param>
    public static Tensor Mix(Tensor memorized, Tensor factorized, Tensor weights)
    {
        ArgumentNullException.ThrowIfNull(memorized);
        ArgumentNullException.ThrowIfNull(weights);
        return memorized * weights.narrow(1, 0, 1) + factorized * weights.narrow(1, 1, 1); // and weights.narrow(1, 2, 1) * 0
    }

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        Tensor e = original.forward(input1, input2);
        Tensor factorized = Factorize(factors.forward(input1), get_buffer("pair_first")!, get_buffer("pair_second")!);
        Tensor z = Mix(memorized.forward(vocabulary.Lookup(input1)), factorized, Weights());
        return classifier.forward(cat([e.flatten(1), z.flatten(1)], 1));
    }
}

/// <summary>
/// The final model of OptInter (sec. III-E): each pair by the one method of a plan. Only what the plan needs exists: rows of memorized pairs, the factors if a pair is factorized, no
/// inputs of the classifier for naive pairs. It maps ids to combinations itself, on its device, unseen and rare ones to their pair's out-of-vocabulary row.
/// Initialised as in the authors' code: tables U(-a, a) with a = (3 / (fields * dim))^2, linear weights Xavier uniform.
/// </summary>
public sealed class OptInterModel : OptInterNetwork
{
    private readonly FieldEmbedding original;
    private readonly CrossVocabulary? vocabulary;
    private readonly Embedding? memorized, factors;
    private readonly Mlp classifier;

    /// <summary>Creates the model of a plan.</summary>
    /// <param name="options">The network.</param>
    /// <param name="plan">The plan.</param>
    /// <param name="vocabulary">A vocabulary with the memorized pairs; a copy of these pairs is kept. Null if no pair is memorized.</param>
    /// <exception cref="ArgumentException">A size is outside its range, the plan has fields that the network lacks, or the vocabulary lacks a memorized pair.</exception>
    public OptInterModel(OptInterOptions options, InteractionPlan plan, CrossVocabulary? vocabulary) : base(nameof(OptInterModel), options)
    {
        ArgumentNullException.ThrowIfNull(plan);
        if (plan.Choices.Any(c => c.Second >= options.Fields)) throw new ArgumentException($"The plan has a field beyond the {options.Fields} fields of the network.", nameof(plan));
        Plan = plan;
        IReadOnlyList<FieldPair> memorizedPairs = plan.Pairs(InteractionMethod.Memorize), factorizedPairs = plan.Pairs(InteractionMethod.Factorize);
        original = new FieldEmbedding(options.Fields, options.Ids, options.OriginalDim);
        Initialize(original.Weight, options.Fields, options.OriginalDim);
        if (memorizedPairs.Count > 0)
        {
            if (vocabulary is null || vocabulary.Ids != options.Ids) throw new ArgumentException($"Memorized pairs need a vocabulary of {options.Ids} ids.", nameof(vocabulary));
            this.vocabulary = vocabulary.Select(memorizedPairs);
            memorized = nn.Embedding(this.vocabulary.Rows, options.CrossDim);
            Initialize(memorized.weight!, plan.Choices.Count, options.CrossDim);
        }
        if (factorizedPairs.Count > 0)
        {
            factors = nn.Embedding(options.Ids, options.CrossDim);
            Initialize(factors.weight!, options.Fields, options.CrossDim);
            RegisterPairs("pair", factorizedPairs);
        }
        classifier = Classifier(memorizedPairs.Count + factorizedPairs.Count);
        foreach (Parameter weight in classifier.parameters())
            if (weight.dim() == 2) init.xavier_uniform_(weight);
        RegisterComponents();
    }

    /// <summary>The plan.</summary>
    public InteractionPlan Plan { get; }

    /// <summary>The combinations of the memorized pairs; null if there are none.</summary>
    public CrossVocabulary? Vocabulary => vocabulary;

    /// <inheritdoc/>
    public override IEnumerable<Parameter> CrossParameters => new[] { memorized?.weight, factors?.weight }.OfType<Parameter>();

    /// <summary>Logits [batch, outputs] of ids, int64 [batch, fields], and values [batch, fields].</summary>
    /// <param name="input1">Ids, int64 [batch, fields].</param>
    /// <param name="input2">Values [batch, fields].</param>
    /// <exception cref="ArgumentException">As <see cref="FieldEmbedding.forward"/>.</exception>
    public override Tensor forward(Tensor input1, Tensor input2)
    {
        List<Tensor> parts = [original.forward(input1, input2).flatten(1)];
        if (memorized is not null) parts.Add(memorized.forward(vocabulary!.Lookup(input1)).flatten(1));
        if (factors is not null) parts.Add(Factorize(factors.forward(input1), get_buffer("pair_first")!, get_buffer("pair_second")!).flatten(1));
        return classifier.forward(parts.Count == 1 ? parts[0] : cat(parts, 1));
    }

    private static void Initialize(Parameter table, long fields, long dim)
    {
        double bound = Math.Pow(3.0 / (fields * dim), 2);
        init.uniform_(table, -bound, bound);
    }
}
