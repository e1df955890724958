using Priori.Training;

namespace Priori.Tests.Training;

public class ClassifierLearnerTests
{
    [Fact]
    public void One_step_of_gradient_descent_is_the_closed_form_of_softmax_regression()
    {
        manual_seed(0);
        Tensor x = randn(8, 3), y = randint(0, 2, 8, ScalarType.Int64);
        var model = Linear(3, 2, hasBias: false);
        Tensor before = model.weight!.detach().clone();
        Tensor expected = before - .5 * (functional.softmax(x.matmul(before.t()), 1) - functional.one_hot(y, 2)).t().matmul(x) / 8;
        using var learner = new ClassifierLearner(model, optim.SGD(model.parameters(), .5));
        new Trainer(new TrainerOptions { Epochs = 1, BatchSize = 8 }).Fit(learner, new TensorSource(x, y));
        Assert.True(allclose(expected, model.weight!, 1e-5, 1e-6));
    }
}
