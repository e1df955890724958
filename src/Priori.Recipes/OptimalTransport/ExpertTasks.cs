using Priori.Data;
using Priori.Nn;
using Priori.OptimalTransport;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Recipes.OptimalTransport;

/// <summary>Rows and classes of a problem with several sub-tasks.</summary>
internal sealed record ExpertTasks(Tensor TrainX, Tensor TrainY, Tensor TestX, Tensor TestY, int Classes, string Description, ColumnSchema? Schema = null)
{
    private const int RuleWidth = 8;
    private const double RuleScale = 2; // steepness of the rules: what makes one small network too small for all of them

    /// <summary>
    /// Clusters around standard normal centres with unit variance; in each the class is the sign of a random two-layer rule of its own,
    /// w' tanh(W (x - c)).
    /// </summary>
    public static ExpertTasks Generate(int train, int test, int tasks, int dim, int seed)
    {
        SplitMix64 random = SplitMix64.For(seed, 0x4D6F45);
        Tensor Gaussian(params long[] shape)
        {
            var values = new float[shape.Aggregate(1L, (p, s) => p * s)];
            for (int i = 0; i < values.Length; i++) values[i] = (float)random.NextGaussian();
            return torch.tensor(values).reshape(shape);
        }
        Tensor centers = Gaussian(tasks, dim), first = Gaussian(tasks, dim, RuleWidth) * (RuleScale / Math.Sqrt(dim)), second = Gaussian(tasks, RuleWidth);
        Tensor task = torch.tensor(Enumerable.Range(0, train + test).Select(_ => (long)random.Next(tasks)).ToArray()), noise = Gaussian(train + test, dim);
        Tensor x = centers.index_select(0, task) + noise, y = torch.zeros(train + test, ScalarType.Int64);
        for (int t = 0; t < tasks; t++)
        {
            Tensor rows = task.eq(t).nonzero().squeeze(1);
            Tensor rule = noise.index_select(0, rows).mm(first[t]).tanh().mv(second[t]);
            y.index_copy_(0, rows, rule.gt(0).to(ScalarType.Int64));
        }
        return new(x[..train], y[..train], x[train..], y[train..], 2, $"{tasks} generated sub-tasks in {dim} dimensions, {train} training and {test} test rows");
    }

    /// <summary>A user's table, split 80 : 20; categories become indicator columns.</summary>
    public static ExpertTasks Read(UserTable data)
    {
        Table table = Table.Read(data.Path);
        if (!table.Has(data.Target)) throw new BadInputException($"{data.Path} has no column '{data.Target}'; it has: {string.Join(", ", table.Columns)}.");
        if (table.RowCount < 50) throw new BadInputException($"{data.Path} has {table.RowCount} rows; at least 50 are needed to train and test.");
        Tensor order = torch.randperm(table.RowCount, ScalarType.Int64, generator: new Generator(0));
        long train = table.RowCount * 4L / 5;
        ColumnSchema schema = ColumnSchema.Learn(table, new() { Target = data.Target, TargetKind = TargetKind.Classes, Scaling = NumericScaling.Standardize }, order[..(int)train]);
        EncodedTable encoded = schema.Encode(table);
        (Tensor x, Tensor y) = (Dense(encoded, schema), encoded.Target!);
        (Tensor fit, Tensor held) = (order[..(int)train], order[(int)train..]);
        return new(x.index_select(0, fit), y.index_select(0, fit), x.index_select(0, held), y.index_select(0, held), schema.Target!.Classes.Count,
            $"{Path.GetFileName(data.Path)}, {train} training and {table.RowCount - train} test rows, target {data.Target}", schema);
    }

    /// <summary>Fields as one row of numbers, [n, ids].</summary>
    public static Tensor Dense(EncodedTable encoded, ColumnSchema schema)
        => torch.zeros(encoded.Ids.shape[0], schema.TotalIds).scatter_add(1, encoded.Ids, encoded.Values);
}

/// <summary>A table and the column to predict.</summary>
internal sealed record UserTable(string Path, string Target);

/// <summary>How a mixture is built; kept with its weights.</summary>
internal sealed record MixtureDescription(string Router, int Dim, int Experts, int Hidden, int Classes, double CapacityFactor, double Gamma, int Iterations, int BatchSize, ColumnSchema? Schema)
{
    public const string TopK = "top-k", Sinkhorn = "sinkhorn", SparseOt = "sparse-ot";

    public MixtureOfExperts Build()
    {
        TokenRouter router = Router switch
        {
            TopK => new TopKRouter(Dim, Experts, 1, CapacityFactor),
            Sinkhorn => new SinkhornRouter(Dim, Experts, CapacityFactor),
            _ => new SparseOtRouter(Dim, Experts, CapacityFactor, Gamma, Iterations),
        };
        return new MixtureOfExperts(router, [.. Enumerable.Range(0, Experts).Select(_ => (Module<Tensor, Tensor>)new Mlp(Dim, [Hidden], Classes))]);
    }
}

/// <summary>The largest load of an expert in any training step.</summary>
internal sealed class LoadRecord : Module
{
    private readonly Tensor largest = torch.zeros(1, ScalarType.Int64);

    public LoadRecord() : base(nameof(LoadRecord)) => RegisterComponents();

    public long Largest => largest.item<long>();

    public void Include(Tensor load) => largest.copy_(torch.maximum(largest, load.max().to(largest.device)));
}

/// <summary>Trains a classifier, dense or a mixture of experts, with cross-entropy and Adam.</summary>
internal sealed class ExpertLearner(Module<Tensor, Tensor> model, double learningRate) : Learner
{
    private readonly LoadRecord record = new();

    public Module<Tensor, Tensor> Model => model;

    public long LargestLoad => record.Largest;

    public override IReadOnlyDictionary<string, Module> Modules => new Dictionary<string, Module> { ["model"] = model, ["load"] = record };

    public override IReadOnlyDictionary<string, Optimization> Optimizers { get; } = new Dictionary<string, Optimization> { ["loss"] = new(optim.Adam(model.parameters(), learningRate)) };

    public override void Step(Batch batch, TrainingStep step)
    {
        Tensor logits;
        if (model is MixtureOfExperts mixture)
        {
            Routing routing = mixture.Router.call(batch[0]);
            logits = mixture.Combine(batch[0], routing);
            record.Include(routing.Load);
            step.Log("uncovered", routing.Uncovered);
        }
        else
        {
            logits = model.call(batch[0]);
        }
        step.Minimize("loss", functional.cross_entropy(logits, batch[1]));
    }
}
