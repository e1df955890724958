using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class SparseTests
{
    private static readonly double[] Logits = [1, .5, -.5, .2];

    public static TheoryData<double, double[]> WorkedExamples => new()
    {
        { 1, [.438791, .266140, .097907, .197161] },
        { 1.5, [.592625, .270214, .000393, .136768] },
        { 1.7, [.651613, .261413, 0, .086975] },
        { 2, [.75, .25, 0, 0] },
        { 2.5, [.862487, .137513, 0, 0] },
    };

    [Theory]
    [MemberData(nameof(WorkedExamples))]
    public void Entmax_matches_the_worked_example(double alpha, double[] expected)
    {
        double[] p = Sparse.Entmax(tensor(Logits), alpha).data<double>().ToArray();
        float[] single = Sparse.Entmax(tensor(Logits, ScalarType.Float32), alpha).data<float>().ToArray();
        for (int j = 0; j < 4; j++)
        {
            Assert.Equal(expected[j], p[j], 1e-6);
            Assert.Equal(expected[j], single[j], 2e-6);
            if (expected[j] == 0) Assert.True(p[j] == 0 && single[j] == 0, "outside the support a probability is exactly zero");
        }
    }

    [Fact]
    public void Close_to_one_it_is_softmax()
    {
        double[] softmax = Sparse.Entmax(tensor(Logits), 1).data<double>().ToArray();
        double[] p = Sparse.Entmax(tensor(Logits), 1.0001).data<double>().ToArray();
        for (int j = 0; j < 4; j++) Assert.Equal(softmax[j], p[j], 1e-4);
    }

    [Theory]
    [InlineData(1.5, 1.5000001)]
    [InlineData(2, 2.0000001)]
    public void Sorting_and_bisection_agree(double sorted, double bisected)
    {
        Tensor x = randn([50, 13], ScalarType.Float64, generator: new Generator(1)) * 2;
        Assert.True((Sparse.Entmax(x, sorted) - Sparse.Entmax(x, bisected)).abs().max().item<double>() < 1e-5);
        Assert.True((Sparse.Entmax(x, 1.5) - Sparse.Entmax15(x)).abs().max().item<double>() == 0);
        Assert.True((Sparse.Entmax(x, 2) - Sparse.Sparsemax(x)).abs().max().item<double>() == 0);
    }

    [Theory]
    [InlineData(1.3)]
    [InlineData(1.5)]
    [InlineData(1.7)]
    [InlineData(2)]
    [InlineData(2.5)]
    public void It_maps_to_the_simplex_along_any_dimension_and_ignores_a_constant(double alpha)
    {
        Tensor x = randn([4, 7, 5], ScalarType.Float64, generator: new Generator(2)) * 3;
        Tensor p = Sparse.Entmax(x, alpha, 1);
        Assert.Equal(x.shape, p.shape);
        Assert.True(p.min().item<double>() >= 0);
        Assert.True((p.sum(1) - 1).abs().max().item<double>() < 1e-12);
        Assert.True((Sparse.Entmax(x + 11.5, alpha, 1) - p).abs().max().item<double>() < 1e-9);
        Assert.True((Sparse.Entmax(x.transpose(1, 2), alpha).transpose(1, 2) - p).abs().max().item<double>() == 0);
        Assert.True((Sparse.Entmax(x.to(ScalarType.Float32), alpha, 1) - p).abs().max().item<double>() < 1e-5);
    }

    [Theory]
    [InlineData(1.01, 1e-13, 2e-6)]
    [InlineData(1.3, 1e-13, 5e-7)]
    [InlineData(1.5, 1e-13, 1e-6)]
    [InlineData(1.7, 1e-13, 1e-6)]
    [InlineData(2, 1e-13, 1e-6)]
    [InlineData(2.5, 1e-12, 2e-5)]
    [InlineData(4, 1e-9, 1e-2)] // p = u^(1/3): what rounds off u weighs much in small probabilities
    public void Newton_in_memory_agrees_with_sorting_and_bisection(double alpha, double tolerance, double floatTolerance)
    {
        foreach (int m in new[] { 1, 2, 10, 33, 512 })
        {
            Tensor x = randn([37, m], ScalarType.Float64, generator: new Generator((ulong)m)) * 3;
            x[0].fill_(1.5);
            x[1, 0] = 1e6;
            (Tensor p, Tensor? s, Tensor? weights) = Sparse.Project(x, alpha, -1, null);
            (Tensor p2, Tensor? s2, Tensor? weights2) = Sparse.Project(x, alpha, -1, null, fused: false);
            Assert.True((p - p2).abs().max().item<double>() < tolerance);
            Assert.True((Sparse.Project(x, alpha, -1, null, backward: false).P - p).abs().max().item<double>() == 0);
            Assert.True((weights! - weights2!).abs().max().item<double>() < 1e4 * tolerance);
            Assert.True(((s! - s2!) / (1 + s2!)).abs().max().item<double>() < 1e6 * tolerance);
            Assert.True((Sparse.Entmax(x.to(ScalarType.Float32), alpha) - p).abs().max().item<double>() < floatTolerance);
        }
    }

    [Theory]
    [InlineData(1.7, ScalarType.Float32)]
    [InlineData(2.5, ScalarType.Float64)]
    public void A_row_does_not_depend_on_its_neighbours_or_on_the_threads(double alpha, ScalarType type)
    {
        Tensor x = randn([4001, 10], type, generator: new Generator(7)) * 2, p = Sparse.Entmax(x, alpha);
        foreach (int row in new[] { 0, 1, 2000, 4000 }) Assert.True((Sparse.Entmax(x[row], alpha) - p[row]).abs().max().ToDouble() == 0);
        int threads = get_num_threads();
        try
        {
            set_num_threads(2);
            Assert.True((Sparse.Entmax(x, alpha) - p).abs().max().ToDouble() == 0);
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    [Fact]
    public void Long_rows_and_empty_batches_are_taken()
    {
        Tensor x = randn([3, 700], ScalarType.Float64, generator: new Generator(8));
        Assert.True((Sparse.Entmax(x, 1.7).sum(1) - 1).abs().max().item<double>() < 1e-12);
        Assert.Equal([0, 4], Sparse.Entmax(zeros(0, 4), 1.7).shape);
    }

    [Fact]
    public void Row_0_of_the_Jacobian_matches_the_worked_example()
    {
        double[] row = Jacobian(tensor(Logits), 1.7)[0];
        double[] expected = [.498202, -.289851, 0, -.208351];
        for (int j = 0; j < 4; j++) Assert.Equal(expected[j], row[j], 1e-6);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(1.2)]
    [InlineData(1.5)]
    [InlineData(1.7)]
    [InlineData(2)]
    [InlineData(2.5)]
    public void The_Jacobian_equals_finite_differences_and_its_rows_sum_to_zero(double alpha)
    {
        const double h = 1e-5;
        double[][] jacobian = Jacobian(tensor(Logits), alpha);
        for (int j = 0; j < 4; j++)
        {
            Assert.Equal(0, jacobian[j].Sum(), 1e-12);
            Tensor step = zeros(4, ScalarType.Float64);
            step[j] = h;
            double[] difference = ((Sparse.Entmax(tensor(Logits) + step, alpha) - Sparse.Entmax(tensor(Logits) - step, alpha)) / (2 * h)).data<double>().ToArray();
            for (int i = 0; i < 4; i++) Assert.Equal(difference[i], jacobian[i][j], 1e-6);
        }
    }

    [Fact]
    public void The_backward_pass_is_the_closed_form_and_not_the_unrolled_bisection()
    {
        Tensor x = tensor(Logits).requires_grad_();
        Tensor p = Sparse.Entmax(x, 1.7, iterations: 3); // far from converged, so an unrolled search would differ
        Tensor upstream = tensor(new double[] { 1, -2, 3, .5 });
        (p * upstream).sum().backward();
        Tensor s = p.detach().pow(.3).masked_fill(p.detach() == 0, 0);
        Tensor expected = s * (upstream - (s * upstream).sum() / s.sum());
        Assert.True((x.grad! - expected).abs().max().item<double>() < 1e-12);
    }

    [Fact]
    public void Steps_leave_no_tensors_behind()
    {
        Tensor x = randn([8, 6], generator: new Generator(3)).requires_grad_();
        long before = 0;
        for (int i = 0; i < 30; i++)
        {
            using (NewDisposeScope())
            {
                foreach (double alpha in new[] { 1.5, 1.7, 2, 2.5 }) Sparse.Entmax(x, alpha).square().sum().backward();
                using Tensor gradient = x.grad!;
                gradient.zero_();
            }
            if (i == 0) before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        }
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Sparse.Entmax(tensor(Logits), .9));
        Assert.Throws<ArgumentOutOfRangeException>(() => Sparse.Entmax(tensor(Logits), double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => Sparse.Entmax(tensor(Logits), 1.7, iterations: 0));
        Assert.Throws<ArgumentException>(() => Sparse.Entmax(tensor(new long[] { 1, 2 }), 1.7));
        Assert.Throws<ArgumentException>(() => Sparse.Entmax(zeros(3, 0), 1.7));
    }

    /// <summary>Row i holds the derivatives of output i.</summary>
    private static double[][] Jacobian(Tensor at, double alpha) => [.. Enumerable.Range(0, (int)at.size(0)).Select(i =>
    {
        Tensor x = at.clone().requires_grad_();
        Sparse.Entmax(x, alpha)[i].backward();
        return x.grad!.data<double>().ToArray();
    })];
}
