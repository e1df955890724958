using Priori.Merging;
using Priori.Metrics;
using Priori.Nn;
using Priori.Runtime;
using Priori.Training;

namespace Priori.Tests.Merging;

/// <summary>Points around class centres; tasks are views of them (coordinates exchanged or turned), for each of which a base network was fine-tuned.</summary>
public sealed class AtlasTrainerTests : IDisposable
{
    private readonly Mlp _network;
    private readonly Dictionary<string, Tensor> _base;
    private readonly CompositionTask[] _tasks, _tests;
    private readonly TaskVector[] _vectors;

    public AtlasTrainerTests()
    {
        Seeds.Set(0);
        Tensor centres = 2 * randn(3, 6);
        CompositionTask Task(string name, Func<Tensor, Tensor> view, int count)
        {
            Tensor labels = arange(count, int64).remainder(3);
            return new CompositionTask(name, view(centres.index_select(0, labels) + 0.7 * randn(count, 6)), labels);
        }
        Func<Tensor, Tensor>[] views = [x => x.roll(1, 1), x => -x];
        CompositionTask upright = Task("upright", x => x, 300);
        _tasks = [.. views.Select((v, i) => Task($"view {i}", v, 120))];
        _tests = [.. views.Select((v, i) => Task($"view {i}", v, 150)), Task("upright", x => x, 150)];
        _network = new Mlp(6, [24], 3);
        Train(upright, 60);
        _base = State();
        _vectors = [.. views.Select((v, i) =>
        {
            Load(_base);
            Train(Task("", v, 300), 30);
            return TaskVector.FromCheckpoints(_base, State(), $"view {i}");
        })];
        Load(_base);
    }

    public void Dispose() => _network.Dispose();

    private Dictionary<string, Tensor> State() => _network.state_dict().ToDictionary(p => p.Key, p => p.Value.detach().clone());

    private void Load(IReadOnlyDictionary<string, Tensor> state)
    {
        using var ungraphed = no_grad();
        foreach ((string name, Tensor tensor) in _network.state_dict()) tensor.copy_(state[name]);
    }

    private void Train(CompositionTask task, int steps)
    {
        using optim.Optimizer optimizer = optim.Adam(_network.parameters(), 0.02);
        for (int i = 0; i < steps; i++)
        {
            optimizer.zero_grad();
            functional.cross_entropy(_network.call(task.Inputs), task.Labels).backward();
            optimizer.step();
        }
    }

    private double Accuracy(CompositionTask task)
    {
        using var _ = no_grad();
        return Classification.Accuracy(_network.call(task.Inputs), task.Labels);
    }

    private double MeanAccuracy(IReadOnlyDictionary<string, Tensor> state)
    {
        Load(state);
        return _tests.Take(2).Average(Accuracy);
    }

    [Fact]
    public void Addition_makes_one_model_of_both_tasks()
    {
        double before = MeanAccuracy(_base), search = TaskArithmetic.SearchScale(_base, _vectors, s => MeanAccuracy(s)).Score;
        Load(_base);
        double[] tuned = [.. _vectors.Select((v, i) => { Load(v.ApplyTo(_base)); return Accuracy(_tasks[i]); })];
        Load(_base);
        using var composition = new AnisotropicComposition(_network, _vectors, Granularity.Partition(4));
        var options = new CompositionOptions { LearningRate = 0.05, Epochs = 20, BatchSize = 60, WeightDecay = 0.01 };
        CompositionResult result = TaskAdditionTrainer.Fit(composition, _tasks, _tasks, tuned, options);
        double learned = MeanAccuracy(composition.Fold());
        Assert.True(learned > before + 0.2 && learned > search, $"base {before}, search {search}, learned {learned}");
        Assert.InRange(result.Epoch, 1, 20);
        Assert.Equal(result.Score, result.History.Series["validation score"][result.Epoch - 1]);
        Assert.Equal(result.Score, result.History.Series["validation score"].Max());

        // The penalty pulls the coefficients together.
        double free = composition.Coefficients.detach().abs().mean().ToDouble();
        Load(_base);
        using var penalised = new AnisotropicComposition(_network, _vectors, Granularity.Partition(4));
        TaskAdditionTrainer.Fit(penalised, _tasks, _tasks, null, options with { Penalty = 5 });
        Assert.True(penalised.Coefficients.detach().abs().mean().ToDouble() < 0.8 * free);
        Assert.Throws<ArgumentException>(() => TaskAdditionTrainer.Fit(composition, _tasks, _tasks, [1, 0]));
    }

    [Fact]
    public void Addition_in_the_linearised_model_leaves_the_base_and_measures_what_it_selected()
    {
        using var composition = new LinearizedComposition(_network, _vectors);
        double before = _tasks.Average(t => t.Accuracy(composition));
        CompositionResult result = TaskAdditionTrainer.Fit(composition, _tasks, _tasks, null, new CompositionOptions { LearningRate = 0.05, Epochs = 10, BatchSize = 60 });
        Assert.True(result.Score > before + 0.1, $"{before} to {result.Score}");
        Assert.Equal(result.Score, _tasks.Average(t => t.Accuracy(composition)), 1e-9);
        Assert.All(_base, p => Assert.True(p.Value.equal(_network.state_dict()[p.Key]).all().item<bool>()));
    }

    [Fact]
    public void Heads_of_the_tasks_are_used_and_stay()
    {
        // The second task counts its classes backwards; its head turns them round.
        CompositionTask turned = _tasks[1] with { Labels = 2 - _tasks[1].Labels, Head = x => x.flip(1) };
        using var plain = new AnisotropicComposition(_network, _vectors);
        TaskAdditionTrainer.Fit(plain, _tasks, _tasks, null, new CompositionOptions { LearningRate = 0.05, Epochs = 3 });
        Tensor expected = plain.Coefficients.detach().clone();
        plain.Restore();
        using var heads = new AnisotropicComposition(_network, _vectors);
        TaskAdditionTrainer.Fit(heads, [_tasks[0], turned], [_tasks[0], turned], null, new CompositionOptions { LearningRate = 0.05, Epochs = 3 });
        Assert.True(expected.allclose(heads.Coefficients.detach(), 1e-4, 1e-5));
    }

    [Fact]
    public void Negation_forgets_the_target_and_keeps_the_control()
    {
        Load(_vectors[0].ApplyTo(_base));
        Dictionary<string, Tensor> start = State();
        CompositionTask target = _tasks[0], control = _tests[2];
        double targetBefore = Accuracy(target), controlBefore = Accuracy(control);
        using var composition = new AnisotropicComposition(_network, [_vectors[0]]);
        CompositionResult result = TaskNegationTrainer.Fit(composition, target, control, target, control, 0.95, new CompositionOptions { LearningRate = 0.02, Epochs = 15, BatchSize = 60, WeightDecay = 0 });
        Load(composition.Fold());
        Assert.True(Accuracy(control) >= 0.95 * controlBefore);
        Assert.True(Accuracy(target) < targetBefore - 0.1, $"{targetBefore} to {Accuracy(target)}");
        Assert.Equal(-Accuracy(target), result.Score, 1e-9);
        // Once the control has fallen, nothing is trained or judged any more, and what was best stays.
        Load(start);
        using var strict = new AnisotropicComposition(_network, [_vectors[0]]);
        CompositionResult stopped = TaskNegationTrainer.Fit(strict, target, control, target, control, 1.2, new CompositionOptions { LearningRate = 0.02, Epochs = 5 });
        Assert.Equal(0, stopped.Epoch);
        Assert.Single(stopped.History.Series["validation control"]);
        Assert.Equal(0, strict.Coefficients.detach().abs().max().item<float>());
    }

    [Fact]
    public void Few_examples_of_a_new_task_choose_among_the_vectors_of_others()
    {
        CompositionTask few = _tasks[1] with { Name = "new", Inputs = _tasks[1].Inputs.narrow(0, 0, 12), Labels = _tasks[1].Labels.narrow(0, 0, 12) };
        double before = Accuracy(_tests[1]);
        using var composition = new AnisotropicComposition(_network, _vectors);
        int augmented = 0;
        CompositionResult result = FewShotTrainer.Fit(composition, few, few, x => { augmented++; return x + 0.05 * randn_like(x); });
        Load(composition.Fold());
        Assert.True(Accuracy(_tests[1]) > before + 0.2, $"{before} to {Accuracy(_tests[1])}");
        Assert.True(augmented >= 10 * 10, $"{augmented} batches"); // at least ten batches in each of ten epochs
        Assert.InRange(result.Epoch, 0, 10);
    }

    [Theory]
    [InlineData(TestTimeObjective.Ufm, false)]
    [InlineData(TestTimeObjective.Ufm, true)]
    [InlineData(TestTimeObjective.Sar, false)]
    [InlineData(TestTimeObjective.SimClr, false)]
    public void Unlabelled_data_move_the_coefficients_and_lower_the_objective(TestTimeObjective objective, bool reference)
    {
        // Three quarters of the way to the second task the network is unsure, and mostly right.
        Load(_vectors[1].ApplyTo(_base, 0.75));
        double before = Accuracy(_tests[1]), entropy = Entropy();
        double Entropy()
        {
            using var _ = no_grad();
            Tensor logits = _network.call(_tests[1].Inputs);
            return -(logits.softmax(1) * logits.log_softmax(1)).sum(dim: 1).mean().ToDouble();
        }
        using var composition = new AnisotropicComposition(_network, [_vectors[1]]);
        CompositionResult result = TestTimeAdapter.Fit(composition, _tests[1].Inputs, x => x + 0.3 * randn_like(x),
            new TestTimeOptions { Objective = objective, Reference = reference, LearningRate = 0.02, Epochs = 8, BatchSize = 40, Threshold = 0.9 });
        double[] losses = result.History.Series["coefficients"];
        Assert.True(composition.Coefficients.detach().abs().max().item<float>() > 0.01);
        Load(composition.Fold());
        // SAR's mean is over ever more samples, so the entropy of all tells.
        if (objective == TestTimeObjective.Sar) Assert.True(Entropy() < entropy, $"{entropy} to {Entropy()}");
        else Assert.True(losses[^1] < losses[0], string.Join(", ", losses));
        if (objective != TestTimeObjective.SimClr) Assert.True(Accuracy(_tests[1]) >= before - 0.02, $"{before} to {Accuracy(_tests[1])}");
        Assert.True(double.IsNaN(result.Score));
    }

    [Fact]
    public void The_contrastive_loss_is_that_of_its_definition()
    {
        using var scope = NewDisposeScope();
        Tensor z = randn(6, 4, float64), unit = z / z.norm(1, true, 2);
        double Similarity(long i, long j) => Math.Exp(unit[i].dot(unit[j]).ToDouble() / 0.5);
        double expected = Enumerable.Range(0, 6).Average(i => -Math.Log(Similarity(i, (i + 3) % 6) / Enumerable.Range(0, 6).Where(j => j != i).Sum(j => Similarity(i, j))));
        Assert.Equal(expected, TestTimeAdapter.ContrastiveLoss(z, 0.5).ToDouble(), 1e-9);
    }

    [Fact]
    public void Selectors_find_the_vector_of_the_target()
    {
        using var scope = NewDisposeScope();
        TaskVector[] pool = [.. Enumerable.Range(0, 3).Select(i => 0.3 * TaskArithmetic.RandomVector(_base, i)), _vectors[1]];
        using var composition = new AnisotropicComposition(_network, pool);
        composition.Set(full(1, 0.25));
        Tensor gradient = TaskVectorSelector.GradientAtBase(composition, f => functional.cross_entropy(f(_tasks[1].Inputs), _tasks[1].Labels));
        Assert.Equal(0.25f, composition.Coefficients.detach().min().item<float>());
        Assert.Equal(3, TaskVectorSelector.Gradient(gradient, 2)[0]);
        TaskVector[] mixed = TaskVectorSelector.BlockwiseGradient(composition, gradient, 2);
        Assert.Equal(2, mixed.Length);
        for (int j = 0; j < composition.Blocks.Count; j++)
        {
            float[] sizes = gradient.select(1, j).abs().data<float>().ToArray();
            int first = Array.IndexOf(sizes, sizes.Max()), second = Array.IndexOf(sizes, sizes.Order().ElementAt(2));
            string block = composition.Blocks[j];
            Assert.True(mixed[0].Delta(block)!.equal(pool[first].Delta(block)!).all().item<bool>() && mixed[1].Delta(block)!.equal(pool[second].Delta(block)!).all().item<bool>());
        }
        Assert.Equal([2, 0], TaskVectorSelector.FeatureSimilarity(tensor(new[] { 1f, 1 }), tensor(new float[,] { { 1, 0 }, { -1, -1 }, { 3, 2.9f } }), 2));
        int[] random = TaskVectorSelector.Random(10, 4, 1);
        Assert.Equal(4, random.Distinct().Count());
        Assert.Equal(random, TaskVectorSelector.Random(10, 4, 1));
        Assert.NotEqual(random, TaskVectorSelector.Random(10, 4, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => TaskVectorSelector.Random(3, 4, 0));
    }

    [Fact]
    public void The_search_takes_the_best_scale_that_is_not_excluded()
    {
        using var scope = NewDisposeScope();
        var state = new Dictionary<string, Tensor> { ["w"] = zeros(1) };
        TaskVector one = TaskVector.FromChanges(new Dictionary<string, Tensor> { ["w"] = ones(1) });
        double Score(IReadOnlyDictionary<string, Tensor> s) => s["w"].item<float>() is var w && w > 0.62 ? double.NegativeInfinity : -Math.Abs(w - 0.66);
        ScaleSearch found = TaskArithmetic.SearchScale(state, [0.5 * one, 0.5 * one], Score);
        Assert.Equal(0.6, found.Alpha, 1e-9);
        Assert.Equal(21, found.Curve.Count);
        Assert.Throws<ArgumentException>(() => TaskArithmetic.SearchScale(state, [one], _ => double.NegativeInfinity));
    }

    [Fact]
    public void Disentanglement_counts_changed_predictions()
    {
        using var scope = NewDisposeScope();
        using var model = Linear(2, 2, hasBias: false);
        using (no_grad()) model.weight!.copy_(eye(2));
        // Vector 1 adds 2 to the first logit for x_1; vector 2 exchanges the logits where both weights are learned.
        TaskVector first = TaskVector.FromChanges(new Dictionary<string, Tensor> { ["weight"] = tensor(new float[,] { { 2, 0 }, { 0, 0 } }) });
        TaskVector second = TaskVector.FromChanges(new Dictionary<string, Tensor> { ["weight"] = tensor(new float[,] { { 0, 4 }, { 0, 0 } }) });
        using var composition = new AnisotropicComposition(model, [first, second]);
        composition.Set(ones(1));
        Tensor inputs = tensor(new float[,] { { 1, 0 }, { 0, 1 }, { 0.1f, 1 }, { 1, 0.1f } });
        double[,] errors = TaskArithmetic.DisentanglementErrors(composition, [inputs, inputs]);
        // With 1 alone rows 2, 3 are of class 2; with both, 4 x_2 makes them class 1: half of the predictions change. With 2 alone all are of class 1 already.
        Assert.Equal(0.5, errors[0, 1]);
        Assert.Equal(0, errors[1, 0]);
        Assert.Equal(1f, composition.Coefficients.detach().min().item<float>());
    }

    [Fact]
    public void Random_directions_have_the_moments_of_the_base()
    {
        using var scope = NewDisposeScope();
        var state = new Dictionary<string, Tensor> { ["w"] = 3 + 2 * randn(100, 100), ["n"] = tensor(1L) };
        Tensor direction = TaskArithmetic.RandomVector(state, 1).Delta("w")!;
        Assert.Equal(3, direction.mean().ToDouble(), 0.1);
        Assert.Equal(2, direction.std().ToDouble(), 0.1);
        Assert.True(direction.equal(TaskArithmetic.RandomVector(state, 1).Delta("w")!).all().item<bool>());
    }

    [Fact]
    public void Adapters_learn_on_frozen_features()
    {
        using var scope = NewDisposeScope();
        Seeds.Set(3);
        Tensor centres = randn(4, 16), labels = arange(32, int64).remainder(4), testLabels = arange(200, int64).remainder(4);
        Tensor Features(Tensor y) => centres.index_select(0, y) + 0.8 * randn(y.shape[0], 16);
        Tensor Logits(Tensor y) => functional.one_hot(y, 4).to(float32) + 1.2 * randn(y.shape[0], 4); // a model that is often wrong
        (Tensor x, Tensor logits, Tensor testX, Tensor testLogits) = (Features(labels), Logits(labels), Features(testLabels), Logits(testLabels));
        double own = Classification.Accuracy(testLogits, testLabels);
        using var untrained = new TipAdapter(x, labels, 4);
        Tensor unit = functional.normalize(testX, dim: 1).matmul(functional.normalize(x, dim: 1).t());
        Tensor expected = testLogits + 2 * (-(1 - unit)).exp().matmul(functional.one_hot(labels, 4).to(float32));
        Assert.True(expected.allclose(untrained.call(testX, testLogits), 1e-4, 1e-4));
        using TipAdapter tip = TipAdapter.Fit(x, labels, logits);
        using var probe = new LinearProbePlusPlus(x, labels, logits);
        Assert.True(Classification.Accuracy(tip.call(testX, testLogits), testLabels) > own + 0.1);
        Assert.True(Classification.Accuracy(probe.call(testX, testLogits), testLabels) > own + 0.1);
        Assert.True(functional.cross_entropy(probe.call(x, logits), labels).ToDouble() < functional.cross_entropy(logits, labels).ToDouble());
        Assert.Throws<ArgumentException>(() => new TipAdapter(x, labels.narrow(0, 0, 3), 4));
    }

    [Fact]
    public void A_training_that_was_stopped_goes_on_to_the_same_coefficients()
    {
        string folder = Directory.CreateTempSubdirectory("priori-atlas-").FullName;
        try
        {
            Tensor Run(bool interrupted)
            {
                Load(_base);
                using var composition = new AnisotropicComposition(_network, _vectors, Granularity.Partition(2));
                using var stop = new CancellationTokenSource();
                int epochs = 0;
                Trainer Trainer(TrainerOptions o) => new(o with { Seed = 1, CheckpointFolder = Path.Combine(folder, interrupted ? "a" : "b"), CheckpointEvery = TimeSpan.Zero, OnEpoch = _ => { if (interrupted && ++epochs == 2) stop.Cancel(); } });
                CompositionOptions options = new() { LearningRate = 0.05, Epochs = 5, BatchSize = 60, Trainer = Trainer, Cancellation = stop.Token };
                if (!interrupted) return Fit(composition, options);
                Assert.Throws<OperationCanceledException>(() => Fit(composition, options));
                composition.Set(zeros(1));
                return Fit(composition, options with { Cancellation = default });
            }
            Tensor Fit(AnisotropicComposition composition, CompositionOptions options)
            {
                TaskAdditionTrainer.Fit(composition, _tasks, _tasks, null, options);
                return composition.Coefficients.detach().clone();
            }
            Assert.True(Run(true).equal(Run(false)).all().item<bool>());
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Random_resized_crops_show_parts_of_the_image()
    {
        using var scope = NewDisposeScope();
        Seeds.Set(0);
        Tensor ramp = linspace(0, 1, 28).expand(200, 1, 28, 28).contiguous(); // brighter to the right
        Tensor crops = RandomResizedCrop.Apply(ramp, flip: false);
        Assert.Equal(ramp.shape, crops.shape);
        Tensor width = crops.select(2, 14).select(1, 0).select(1, 27) - crops.select(2, 14).select(1, 0).select(1, 0);
        Assert.InRange(width.min().item<float>(), 0.5f, 1f); // area 1/2 with aspect 3/4: width at least 0.61
        Assert.True((width.max() - width.min()).item<float>() > 0.2);
        Tensor flipped = RandomResizedCrop.Apply(ramp);
        Tensor direction = (flipped.select(2, 14).select(1, 0).select(1, 27) - flipped.select(2, 14).select(1, 0).select(1, 0)).sign();
        Assert.InRange(direction.eq(-1).to(float32).mean().item<float>(), 0.35f, 0.65f);
        Assert.True(RandomResizedCrop.Apply(ramp, smallest: 1, flip: false, ratio: 1).allclose(ramp, 1e-4, 1e-5));
        Assert.Throws<ArgumentException>(() => RandomResizedCrop.Apply(ramp[0]));
        Assert.Throws<ArgumentOutOfRangeException>(() => RandomResizedCrop.Apply(ramp, 0));
    }
}
