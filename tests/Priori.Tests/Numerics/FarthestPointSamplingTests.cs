using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class FarthestPointSamplingTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1e4)] // far from the origin
    public void The_corners_come_before_the_neighbour_of_the_start(double shift)
    {
        using Tensor data = tensor(new double[,] { { 0, 0 }, { 1, 0 }, { 5, 0 }, { 0, 4 }, { 5, 4 } }) + shift;
        Assert.Equal([0, 4, 2, 3], FarthestPointSampling.Select(data, 4).data<long>().ToArray());
        Assert.Equal([0, 4, 2, 3, 1], FarthestPointSampling.Select(data.to(float32), 5).data<long>().ToArray());
    }

    [Fact]
    public void Each_choice_is_the_farthest_by_definition()
    {
        using Tensor data = randn([60, 3], float64, generator: new Generator(3));
        long[] chosen = FarthestPointSampling.Select(data, 20, start: 7).data<long>().ToArray();
        Assert.Equal(7, chosen[0]);
        for (int i = 1; i < chosen.Length; i++)
        {
            Tensor nearest = cdist(data, data.index_select(0, tensor(chosen[..i]))).amin([1L]);
            Assert.Equal(nearest.argmax().item<long>(), chosen[i]);
        }
    }

    [Fact]
    public void Equal_rows_are_chosen_once_each()
    {
        using Tensor data = ones(4, 2);
        Assert.Equal([0, 1, 2, 3], FarthestPointSampling.Select(data, 4).data<long>().ToArray().Order());
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        using Tensor data = ones(3, 2);
        Assert.Contains("1..3", Assert.Throws<ArgumentOutOfRangeException>(() => FarthestPointSampling.Select(data, 4)).Message);
        Assert.Contains("1..3", Assert.Throws<ArgumentOutOfRangeException>(() => FarthestPointSampling.Select(data, 0)).Message);
        Assert.Contains("0..2", Assert.Throws<ArgumentOutOfRangeException>(() => FarthestPointSampling.Select(data, 1, 3)).Message);
        Assert.Contains("NaN", Assert.Throws<ArgumentException>(() => FarthestPointSampling.Select(full([2, 2], float.NaN), 1)).Message);
    }
}
