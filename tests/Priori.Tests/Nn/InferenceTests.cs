using Priori.Nn;

namespace Priori.Tests.Nn;

public class InferenceTests
{
    [Fact]
    public void Batches_give_what_one_pass_gives_and_the_mode_is_put_back()
    {
        manual_seed(0);
        using var model = Sequential(Linear(3, 4), BatchNorm1d(4), Dropout(.5), Linear(4, 2));
        Tensor x = randn(11, 3);
        model.eval();
        Tensor expected = model.call(x).detach();
        model.train();
        Tensor outputs = Inference.Outputs(model, x, batchSize: 4);
        Assert.True(model.training);
        Assert.False(outputs.requires_grad);
        Assert.True(allclose(expected, outputs));
        Assert.Throws<ArgumentException>(() => Inference.Outputs(model, zeros(0, 3)));
    }
}
