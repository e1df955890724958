using Priori.Training;

namespace Priori.Tests.Training;

public sealed class DistillationTests
{
    private static readonly Tensor s_old = tensor(new[] { 2.0, -1, 0 }).view(1, 3), s_new = tensor(new[] { 1.0, 0, .5 }).view(1, 3);

    [Fact]
    public void Worked_example_of_both_forms()
    {
        Assert.Equal(1.849689, Distillation.Sigmoid(s_new, s_old).ToDouble(), 6);
        double[] perClass = [.. Enumerable.Range(0, 3).Select(c => Distillation.Sigmoid(s_new.narrow(1, c, 1), s_old.narrow(1, c, 1)).ToDouble())];
        Assert.Equal(.432465, perClass[0], 6);
        Assert.Equal(.693147, perClass[1], 6);
        Assert.Equal(.724077, perClass[2], 6);
        Assert.Equal(0.365228, Distillation.Softmax(s_new, s_old, 2).ToDouble(), 6);
        Tensor target = (s_old / 2).softmax(1);
        Assert.Equal(3.989065, 0.365228 + 4 * -(target * target.log()).sum().ToDouble(), 1e-6); // the cross-entropy form, with the teacher's entropy
        Assert.Equal(.25 + 1, Distillation.Features(tensor(new[] { 1.5, 0 }).view(1, 2), tensor(new[] { 1.0, 1 }).view(1, 2)).ToDouble(), 12);
    }

    [Fact]
    public void The_batch_is_averaged_and_agreement_has_no_gradient()
    {
        Assert.Equal(Distillation.Softmax(s_new, s_old).ToDouble(), Distillation.Softmax(s_new.repeat(3, 1), s_old.repeat(3, 1)).ToDouble(), 12);
        Assert.Equal(Distillation.Sigmoid(s_new, s_old).ToDouble(), Distillation.Sigmoid(s_new.repeat(3, 1), s_old.repeat(3, 1)).ToDouble(), 12);
        foreach (Func<Tensor, Tensor, Tensor> loss in new Func<Tensor, Tensor, Tensor>[] { (s, t) => Distillation.Softmax(s, t), Distillation.Sigmoid, Distillation.Features })
        {
            Tensor teacher = randn(4, 3, dtype: float64, requires_grad: true), student = teacher.detach().clone().requires_grad_();
            loss(student, teacher).backward();
            Assert.InRange(student.grad!.abs().max().ToDouble(), 0, 1e-15);
            Assert.Null(teacher.grad);
        }
    }

    [Fact]
    public void Shapes_must_agree()
    {
        Assert.Throws<ArgumentException>(() => Distillation.Softmax(randn(2, 3), randn(2, 4)));
        Assert.Throws<ArgumentException>(() => Distillation.Features(randn(3), randn(3)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Distillation.Softmax(randn(2, 3), randn(2, 3), 0));
    }
}
