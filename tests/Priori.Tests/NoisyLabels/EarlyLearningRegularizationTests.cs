using Priori.NoisyLabels;
using Priori.Training;

namespace Priori.Tests.NoisyLabels;

public sealed class EarlyLearningRegularizationTests : IDisposable
{
    private static readonly double[,] s_logits = { { 2, 0, -1 }, { 0, 1, .5 } };
    private static readonly double[,] s_before = { { .6, .3, .1 }, { .2, .5, .3 } };
    private static readonly double[,] s_after = { { .67313842, .24425856, .08260302 }, { .19589712, .50194412, .30215877 } };
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    private static EarlyLearningRegularizationLoss Loss(double[,]? before = null, double beta = .7, double lambda = 3, int rows = 2)
    {
        var loss = new EarlyLearningRegularizationLoss(rows, 3, beta, lambda);
        loss.to(ScalarType.Float64);
        if (before is not null) loss.Targets.copy_(tensor(before));
        return loss;
    }

    private static Tensor Logits() => tensor(s_logits).requires_grad_();

    private static void Near(double[,] expected, Tensor actual, double tolerance = 1e-8)
    {
        Assert.Equal([expected.GetLength(0), expected.GetLength(1)], actual.shape);
        for (int i = 0; i < expected.GetLength(0); i++)
            for (int j = 0; j < expected.GetLength(1); j++) Assert.Equal(expected[i, j], actual[i, j].ToDouble(), tolerance);
    }

    [Fact] // Check 1
    public void Loss_targets_and_gradient_have_the_worked_values()
    {
        var loss = Loss(s_before);
        Tensor z = Logits();
        Tensor value = loss.forward(tensor(new long[] { 0, 1 }), z, tensor(new long[] { 1, 1 }));
        value.backward();

        Near(s_after, loss.Targets);
        Assert.Equal(-.6726175334, value.ToDouble(), 1e-9);
        Assert.Equal(1.4250578451, functional.cross_entropy(z, tensor(new long[] { 1, 1 })).ToDouble(), 1e-9);
        Assert.Equal(-.6992251262, (value - functional.cross_entropy(z, tensor(new long[] { 1, 1 }))).ToDouble() / 3, 1e-9);
        Near(new[,] { { .18880284, -.29108438, .10228155 }, { .17823803, -.39267310, .21443507 } }, z.grad!);

        // Closed form: (p - y + lambda g) / B with g_c = p_c / (1 - <p,t>) sum_k (t_k - t_c) p_k; t is the updated table and carries no gradient.
        Tensor p = functional.softmax(z.detach(), 1), t = loss.Targets, y = functional.one_hot(tensor(new long[] { 1, 1 }), 3).to(ScalarType.Float64);
        Tensor inner = (t * p).sum(1, keepdim: true);
        Tensor closed = (p - y + 3 * p / (1 - inner) * (inner - t)) / 2;
        Assert.True((z.grad! - closed).abs().max().ToDouble() < 1e-15);
        Assert.False(loss.Targets.requires_grad);
    }

    [Fact] // Check 2
    public void Targets_start_at_zero_and_sum_to_one_minus_beta_to_the_visits()
    {
        var loss = Loss();
        double[] sums = [.3, .51, .657, .7599, .83193];
        for (int visit = 0; visit < sums.Length; visit++)
        {
            loss.forward(tensor(new long[] { 0, 1 }), Logits(), tensor(new long[] { 1, 1 }));
            if (visit == 0) Near(new[,] { { .25313842, .03425856, .01260302 }, { .05589712, .15194412, .09215877 } }, loss.Targets);
            Assert.Equal(sums[visit], loss.Targets.sum(1)[0].ToDouble(), 1e-12);
            Assert.Equal(sums[visit], loss.Targets.sum(1)[1].ToDouble(), 1e-12);
        }
    }

    [Fact] // Check 3
    public void Lambda_zero_is_cross_entropy_bit_for_bit()
    {
        manual_seed(3);
        Tensor z = randn(64, 10, requires_grad: true), y = randint(10, [64], ScalarType.Int64);
        new EarlyLearningRegularizationLoss(64, 10, lambda: 0).forward(arange(64, ScalarType.Int64), z, y).backward();
        Tensor gradient = z.grad!.clone();
        z.grad!.zero_();
        functional.cross_entropy(z, y).backward();
        Assert.True(gradient.Equals(z.grad!));
    }

    [Fact] // Check 3
    public void Beta_zero_takes_the_present_prediction_as_target()
    {
        var loss = Loss(s_before, beta: 0, lambda: 1);
        Tensor z = tensor(s_logits), y = tensor(new long[] { 1, 1 }), p = functional.softmax(z, 1);
        double regularizer = (loss.forward(tensor(new long[] { 0, 1 }), z, y) - functional.cross_entropy(z, y)).ToDouble();
        Assert.True((loss.Targets - p).abs().max().ToDouble() < 1e-15);
        Assert.Equal((1 - p.square().sum(1)).log().mean().ToDouble(), regularizer, 1e-12);
    }

    [Fact] // Check 4
    public void Ramp_up_has_the_worked_values()
    {
        double[] steps = [0, 10_000, 20_000, 30_000, 40_000, 50_000];
        double[] expected = [.006737947, .060054668, .286504797, .731615629, 1, 1];
        for (int i = 0; i < steps.Length; i++) Assert.Equal(expected[i], SigmoidRampUp.At(steps[i], 40_000), 1e-9);
        Assert.Equal(1, SigmoidRampUp.At(0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => SigmoidRampUp.At(0, -1));
    }

    [Fact] // Check 4
    public void Decay_of_the_weight_average_has_the_worked_values()
    {
        var plain = new EarlyLearningPlusOptions { EmaRampUp = false };
        long[] steps = [1, 2, 99, 999];
        double[] expected = [.5, 2.0 / 3, .99, .997];
        for (int i = 0; i < steps.Length; i++) Assert.Equal(expected[i], plain.DecayAt(steps[i]), 1e-12);
        Assert.Equal(SigmoidRampUp.At(10_000, 40_000) * .997, new EarlyLearningPlusOptions().DecayAt(9_999), 1e-12);
    }

    [Fact] // Check 5
    public void Mixed_targets_and_reweighted_labels_have_the_worked_values()
    {
        var mixup = new Mixup(.7, tensor(new long[] { 1, 0 }));
        Tensor q = mixup.Mix(tensor(s_after));
        Near(new[,] { { .52996603, .32156423, .14846974 }, { .33906951, .42463845, .23629204 } }, q);
        Near(new[,] { { .3, .7, 0 }, { .7, .3, 0 } }, mixup.Mix(tensor(new double[,] { { 0, 1, 0 }, { 1, 0, 0 } })), 1e-15);

        // With the table of check 1 as fixed point (teacher probabilities = table, beta 0), lambda 0: cross-entropy to the reweighted label alone.
        var loss = new EarlyLearningPlusLoss(2, 3, new EarlyLearningPlusOptions { Beta = 0, Lambda = 0, ReweightLabelsByTarget = true });
        loss.to(ScalarType.Float64);
        Tensor z = tensor(s_logits, requires_grad: true);
        loss.forward(tensor(new long[] { 0, 1 }), z, tensor(new long[] { 1, 0 }), tensor(s_after).log(), mixup, 1).backward();
        Tensor label = functional.softmax(z.detach(), 1) - 2 * z.grad!; // gradient of soft cross-entropy: (p - y~) / B
        Assert.Equal(.41394458, label[0, 0].ToDouble(), 1e-8);
        Assert.Equal(.58605542, label[0, 1].ToDouble(), 1e-8);
        Assert.Equal(0, label[0, 2].ToDouble(), 1e-12);
    }

    [Fact] // Check 6
    public void Order_within_the_batch_changes_nothing_and_an_epoch_equals_the_sequential_reference()
    {
        manual_seed(5);
        Tensor z = randn(40, 4, ScalarType.Float64), y = randint(4, [40], ScalarType.Int64);
        var one = new EarlyLearningRegularizationLoss(40, 4);
        var two = new EarlyLearningRegularizationLoss(40, 4);
        one.to(ScalarType.Float64);
        two.to(ScalarType.Float64);
        double[,] reference = new double[40, 4];
        for (int epoch = 0; epoch < 3; epoch++)
        {
            Tensor order = randperm(40, ScalarType.Int64), logits = z * (epoch + 1);
            foreach (Tensor batch in order.split(7))
            {
                Tensor shuffled = batch.index_select(0, randperm(batch.shape[0], ScalarType.Int64));
                double a = one.forward(batch, logits.index_select(0, batch), y.index_select(0, batch)).ToDouble();
                double b = two.forward(shuffled, logits.index_select(0, shuffled), y.index_select(0, shuffled)).ToDouble();
                Assert.Equal(a, b, 1e-12);
                foreach (long row in batch.data<long>())
                {
                    double[] p = [.. functional.softmax(logits[row], 0).data<double>().Select(v => Math.Clamp(v, 1e-4, 1 - 1e-4))];
                    for (int c = 0; c < 4; c++) reference[row, c] = .7 * reference[row, c] + .3 * p[c] / p.Sum();
                }
            }
        }
        Assert.True(one.Targets.Equals(two.Targets));
        Near(reference, one.Targets, 1e-14);
    }

    [Fact] // Check 8
    public void Clamped_probabilities_give_no_gradient()
    {
        var loss = Loss(new double[,] { { 1, 0, 0 } }, beta: .9, rows: 1);
        Tensor z = tensor(new double[,] { { 20, 0, 0 } }, requires_grad: true), y = tensor(new long[] { 1 });
        Tensor value = loss.forward(tensor(new long[] { 0 }), z, y);
        value.backward();
        Assert.Equal(-9.028069, (value - functional.cross_entropy(z, y)).ToDouble() / 3, 1e-6);
        Near(new double[,] { { 1, -1, 0 } }, z.grad!, 1e-6);
    }

    [Theory] // Check 9
    [InlineData(false, .776771)]
    [InlineData(true, .605402)]
    public void Plus_loss_has_the_worked_values(bool reweight, double expected)
    {
        var options = new EarlyLearningPlusOptions { Beta = .7, Lambda = 3, ReweightLabelsByTarget = reweight };
        var mixup = new Mixup(.8, tensor(new long[] { 1, 0 }));
        Tensor z = tensor(new double[,] { { 2, 1, 0 }, { .5, -.5, 1.5 } }), teacher = tensor(new double[,] { { 1, 1, 0 }, { 0, 0, 3 } });
        double Value(double lambda, bool reweighted, out Tensor targets)
        {
            var loss = new EarlyLearningPlusLoss(2, 3, options with { Lambda = lambda, ReweightLabelsByTarget = reweighted });
            loss.to(ScalarType.Float64);
            double value = loss.forward(tensor(new long[] { 0, 1 }), z, tensor(new long[] { 1, 2 }), teacher, mixup, 1).ToDouble();
            targets = loss.Targets;
            return value;
        }

        Assert.Equal(expected, Value(3, reweight, out Tensor table), 1e-6);
        Near(new[,] { { .104073, .104073, .091854 }, { .036206, .036206, .227588 } }, mixup.Mix(table), 1e-6);
        Assert.Equal(1.207606, Value(0, false, out _), 1e-6);
        Assert.Equal(-.143612, (Value(3, false, out _) - Value(0, false, out _)) / 3, 1e-6);
    }

    [Fact]
    public void A_soft_label_loss_to_the_targets_would_not_keep_clean_gradients_alive()
    {
        // Near p = y the cross-entropy gradient vanishes while the regularizer still pushes to the target's class with |3 g_1| > |p - y|.
        var loss = Loss(new double[,] { { .02, .97, .01 } }, beta: .99, rows: 1);
        Tensor z = tensor(new double[,] { { 0, 3, 0 } }, requires_grad: true), y = tensor(new long[] { 1 });
        loss.forward(tensor(new long[] { 0 }), z, y).backward();
        double total = z.grad![0, 1].ToDouble();
        double crossEntropy = (functional.softmax(z.detach(), 1)[0, 1] - 1).ToDouble();
        Assert.True(total < 4 * crossEntropy, $"{total} against {crossEntropy}");

        // A wrong label with the target on the true class: the pull towards the wrong label is cancelled and turned round.
        var wrong = Loss(new double[,] { { .02, .97, .01 } }, beta: .99, rows: 1);
        z = tensor(new double[,] { { 0, 3, 0 } }, requires_grad: true);
        wrong.forward(tensor(new long[] { 0 }), z, tensor(new long[] { 0 })).backward();
        Assert.True(z.grad![0, 1].ToDouble() < 0);
    }

    [Fact]
    public void Warm_up_averages_targets_with_plain_cross_entropy()
    {
        var loss = Loss();
        Tensor z = tensor(s_logits), y = tensor(new long[] { 1, 1 });
        Assert.Equal(1.4250578451, loss.WarmUp(tensor(new long[] { 0, 1 }), z, y).ToDouble(), 1e-9);
        Assert.Equal(.3, loss.Targets.sum(1)[0].ToDouble(), 1e-12);
    }

    [Fact]
    public void Targets_are_state()
    {
        var loss = new EarlyLearningRegularizationLoss(5, 3);
        loss.forward(tensor(new long[] { 4, 2 }), tensor(s_logits).to(ScalarType.Float32), tensor(new long[] { 1, 1 }));
        var state = loss.state_dict();
        Tensor saved = Assert.Single(state).Value;
        Assert.Equal([5L, 3L], saved.shape);
        Assert.Equal(ScalarType.Float32, saved.dtype);
        Assert.Equal(0, saved[0].sum().ToDouble());
        Assert.Equal(.3, saved[4].sum().ToDouble(), 1e-6);
    }

    [Fact]
    public void Bad_arguments_are_refused_and_change_nothing()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new EarlyLearningRegularizationLoss(2, 3, beta: 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new EarlyLearningRegularizationLoss(2, 3, beta: -.1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new EarlyLearningRegularizationLoss(2, 3, lambda: -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new EarlyLearningRegularizationLoss(0, 3));
        Assert.Throws<ArgumentException>(() => new EarlyLearningPlusOptions { Beta = 1 }.Validate());
        Assert.Throws<ArgumentException>(() => new EarlyLearningPlusOptions { MixupAlpha = -1 }.Validate());

        var loss = Loss(s_before);
        Tensor z = tensor(s_logits), ids = tensor(new long[] { 0, 1 }), y = tensor(new long[] { 1, 1 });
        void Refused(string message, Tensor rows, Tensor logits, Tensor labels)
            => Assert.Contains(message, Assert.Throws<ArgumentException>(() => loss.forward(rows, logits, labels)).Message, StringComparison.Ordinal);
        Refused("Row id 2 is outside 0..1", tensor(new long[] { 0, 2 }), z, y);
        Refused("Row id -1 is outside 0..1", tensor(new long[] { -1, 0 }), z, y);
        Refused("Row id 1 occurs twice", tensor(new long[] { 1, 1 }), z, y);
        Refused("Row ids must be int64 [2]", tensor(new long[] { 1 }), z, y);
        Refused("Label 3 is outside 0..2", ids, z, tensor(new long[] { 0, 3 }));
        Refused("Label -1 is outside 0..2", ids, z, tensor(new long[] { 0, -1 }));
        Refused("Labels must be int64 [2]", ids, z, tensor(new int[] { 0, 1 }));
        Refused("Logits must be [batch, 3]", ids, zeros(2, 4, ScalarType.Float64), y);
        Near(s_before, loss.Targets, 0);
    }

    [Fact]
    public void Label_error_report_names_the_rows_whose_target_contradicts_the_label()
    {
        Tensor targets = tensor(new double[,] { { .1, .2, 0 }, { .5, .1, .2 }, { 0, 0, 0 }, { .2, .1, .6 } });
        LabelErrorReport report = LabelErrorReport.From(targets, tensor(new long[] { 0, 0, 2, 1 }));
        Assert.Equal([1L, 0, 2, 2], report.Suggested.data<long>());
        Assert.Equal([true, false, false, true], report.Suspect.data<bool>());
        double[] expected = [2.0 / 3, 3.0 / 8, 0, 8.0 / 9];
        Assert.All(report.Scores.data<double>().Zip(expected), pair => Assert.Equal(pair.Second, pair.First, 1e-12));
        Tensor truth = tensor(new long[] { 1, 0, 2, 1 });
        Assert.Equal(.75, report.DetectionAccuracy(truth), 1e-12);
        Assert.Equal(.5, report.Precision(truth), 1e-12);
        Assert.Equal(1, report.Recall(truth), 1e-12);
    }

    [Fact]
    public void Linear_model_learns_early_and_memorises_late()
    {
        LinearEarlyLearning path = LinearEarlyLearning.Run(1000, seed: 0);
        Assert.True(path.FlippedTrue[0] >= .75, $"step 1: {path.FlippedTrue[0]}");
        Assert.True(path.FlippedTrue[^1] <= .02, $"step 1000: {path.FlippedTrue[^1]}");
        Assert.True(path.FlippedMemorized[^1] >= .98, $"step 1000: {path.FlippedMemorized[^1]}");
        Assert.Equal(path.FlippedTrue, LinearEarlyLearning.Run(1000, seed: 0).FlippedTrue);
    }
}
