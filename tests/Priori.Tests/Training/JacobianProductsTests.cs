using Priori.Training;

namespace Priori.Tests.Training;

public class JacobianProductsTests
{
    private static readonly double[,] s_first = { { 1, -2, .5 }, { .3, 1.5, -1 } }, s_second = { { 2, -1 }, { .5, 3 }, { -1, 1 } };

    // y = B tanh(A x) with J = B diag(1 - tanh^2) A, a row of the batch at a time.
    private static (Tensor X, Tensor Y, Tensor J) Case()
    {
        Tensor a = tensor(s_first), b = tensor(s_second);
        Tensor x = tensor(new double[,] { { .2, -.4, .7 }, { 1, .1, -.3 } }).requires_grad_(true);
        Tensor hidden = x.matmul(a.t()).tanh();
        Tensor slope = (1 - hidden * hidden).detach();
        return (x, hidden.matmul(b.t()), b.unsqueeze(0).mul(slope.unsqueeze(1)).matmul(a));
    }

    [Fact]
    public void Products_are_those_of_the_closed_form_Jacobian()
    {
        using var scope = NewDisposeScope();
        (Tensor x, Tensor y, Tensor j) = Case();
        Tensor v = tensor(new double[,] { { 1, 2, -1 }, { 0, -1, .5 } }), u = tensor(new double[,] { { 1, -1, 2 }, { .5, 0, 1 } });
        Close(j.matmul(v.unsqueeze(2)).squeeze(2), JacobianProducts.Jvp(y, [x], [v]));
        Close(j.transpose(1, 2).matmul(u.unsqueeze(2)).squeeze(2), JacobianProducts.Vjp(y, [x], u)[0]);
        Close(j, JacobianProducts.PerRow(y, x));
        Close(j.transpose(1, 2).matmul(j).matmul(v.unsqueeze(2)).squeeze(2), JacobianProducts.GaussNewtonVector(y, [x], [v])[0]);
        Tensor rows = JacobianProducts.Rows(y, [x]);
        Assert.Equal([6L, 6L], rows.shape);
        Close(j[0], rows[TensorIndex.Slice(0, 3), TensorIndex.Slice(0, 3)]);
        Close(zeros(3, 3, float64), rows[TensorIndex.Slice(0, 3), TensorIndex.Slice(3, 6)]);
        Close(j[1], rows[TensorIndex.Slice(3, 6), TensorIndex.Slice(3, 6)]);
    }

    [Fact]
    public void A_Gauss_Newton_product_takes_the_Hessian_of_the_loss()
    {
        using var scope = NewDisposeScope();
        (Tensor x, Tensor y, Tensor j) = Case();
        Tensor v = ones_like(x);
        Tensor weights = tensor(new double[] { 1, 2, 3 });
        Close(j.transpose(1, 2).matmul(diag(weights)).matmul(j).matmul(v.unsqueeze(2)).squeeze(2), JacobianProducts.GaussNewtonVector(y, [x], [v], u => u * weights)[0]);
    }

    [Fact]
    public void A_Hessian_product_is_that_of_the_closed_form()
    {
        using var scope = NewDisposeScope();
        // L = 0.5 x^T S x + sum(w^3): H = blockdiag(S, diag(6 w)).
        Tensor s = tensor(new double[,] { { 2, .5 }, { .5, 3 } });
        Tensor x = tensor(new double[] { 1, -2 }).requires_grad_(true), w = tensor(new double[] { .5, 2, -1 }).requires_grad_(true);
        Tensor loss = x.matmul(s).dot(x) / 2 + w.pow(3).sum();
        Tensor[] product = JacobianProducts.HessianVector(loss, [x, w], [tensor(new double[] { 1, 1 }), tensor(new double[] { 1, 2, 3 })]);
        Close(tensor(new double[] { 2.5, 3.5 }), product[0]);
        Close(tensor(new double[] { 3, 24, -18 }), product[1]);
        Close(zeros(2, float64), JacobianProducts.HessianVector((x * 3).sum(), [x], [ones_like(x)])[0]); // linear: no curvature
    }

    [Fact]
    public void A_forward_product_can_be_differentiated_again()
    {
        using var scope = NewDisposeScope();
        Tensor x = tensor(new double[] { .5, -1 }).requires_grad_(true);
        Tensor product = JacobianProducts.Jvp(x.pow(3), [x], [ones_like(x)], createGraph: true); // 3 x^2
        Close(tensor(new double[] { 3, -6 }), JacobianProducts.Vjp(product, [x], ones_like(product))[0]); // 6 x
    }

    [Fact]
    public void An_input_without_influence_has_zero_products()
    {
        using var scope = NewDisposeScope();
        Tensor x = ones(2, float64).requires_grad_(true), unused = ones(3, float64).requires_grad_(true);
        Tensor y = x * 2;
        Close(zeros(3, float64), JacobianProducts.Vjp(y, [x, unused], ones_like(y))[1]);
        Close(zeros(2, float64), JacobianProducts.Jvp(y, [unused], [ones_like(unused)]));
    }

    [Fact]
    public void Bad_arguments_are_refused_before_libtorch_sees_them()
    {
        using var scope = NewDisposeScope();
        Tensor x = ones(2).requires_grad_(true), y = x * 2;
        Assert.Throws<ArgumentException>(() => JacobianProducts.Vjp(ones(2), [x], ones(2)));
        Assert.Throws<ArgumentException>(() => JacobianProducts.Vjp(y, [ones(2)], ones(2)));
        Assert.Throws<ArgumentException>(() => JacobianProducts.Vjp(y, [x], ones(3)));
        Assert.Throws<ArgumentException>(() => JacobianProducts.Vjp(y, [x], ones(2, float64)));
        Assert.Throws<ArgumentException>(() => JacobianProducts.Jvp(y, [x], []));
        Assert.Throws<ArgumentException>(() => JacobianProducts.Jvp(y, [x], [ones(3)]));
        Assert.Throws<ArgumentException>(() => JacobianProducts.HessianVector(y, [x], [ones(2)]));
        Assert.Throws<ArgumentException>(() => JacobianProducts.PerRow(y.sum(), x));
    }

    private static void Close(Tensor expected, Tensor actual)
    {
        Assert.Equal(expected.shape, actual.shape);
        Assert.InRange((expected - actual).abs().max().item<double>(), 0, 1e-12);
    }
}
