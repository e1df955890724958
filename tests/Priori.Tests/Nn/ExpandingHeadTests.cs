using Priori.Nn;
using Priori.Runtime;

namespace Priori.Tests.Nn;

public sealed class ExpandingHeadTests
{
    [Fact]
    public void Expansion_leaves_the_rows_there_are_alone()
    {
        Seeds.Set(1);
        using var head = new ExpandingHead(4);
        Assert.Throws<InvalidOperationException>(() => head.call(randn(2, 4)));
        head.Expand(2);
        Tensor x = randn(3, 4), before = head.call(x).detach();
        head.Expand(3);
        Tensor after = head.call(x);
        Assert.Equal([3, 5], after.shape);
        Assert.Equal(before.bytes.ToArray(), after.narrow(1, 0, 2).contiguous().bytes.ToArray());
        Assert.Equal(5, head.Classes);
        Assert.Equal(["0.weight", "0.bias", "1.weight", "1.bias"], head.named_parameters().Select(p => p.name));
        (Tensor weight, Tensor? bias) = head.Merged();
        Assert.True(functional.linear(x, weight, bias).allclose(after));
        after.narrow(1, 2, 3).sum().backward();
        Assert.True(head.get_parameter("0.weight")!.grad is null || head.get_parameter("0.weight")!.grad!.count_nonzero().ToInt64() == 0);
    }

    [Fact]
    public void A_head_smaller_than_a_class_id_is_named()
    {
        using var head = new ExpandingHead(4, bias: false);
        head.Expand(3);
        head.Check(tensor(new long[] { 0, 2 }));
        Assert.Contains("Class 3", Assert.Throws<ArgumentException>(() => head.Check(tensor(new long[] { 0, 3 }))).Message);
        Assert.Throws<ArgumentException>(() => head.Check(tensor(new long[] { -1 })));
        Assert.Throws<ArgumentOutOfRangeException>(() => head.Expand(0));
    }
}
