using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class MutualInformationTests
{
    public static TheoryData<long[,], double> Tables => new()
    {
        { new long[,] { { 4, 1 }, { 1, 4 } }, .1927448 },
        { new long[,] { { 2, 2 }, { 2, 2 } }, 0 },
        { new long[,] { { 5, 0 }, { 0, 5 } }, Math.Log(2) },
        { new long[,] { { 3, 1, 0 }, { 0, 2, 4 } }, .4820574 },
    };

    [Theory]
    [MemberData(nameof(Tables))]
    public void Tables_of_counts_have_known_information(long[,] counts, double information)
    {
        Assert.Equal(information, MutualInformation.OfCounts(counts), 1e-7);
        Assert.Equal(information, MutualInformation.Matrix(Samples(counts))[0, 1], 1e-7);
    }

    [Fact]
    public void The_matrix_is_symmetric_not_negative_with_entropies_on_the_diagonal_and_blind_to_names()
    {
        // Column 3 has a value for each sample, column 4 one for all.
        const int N = 5000;
        using var generator = new Generator(3);
        Tensor a = randint(6, [N], ScalarType.Int64, generator: generator), noise = randint(3, [N], ScalarType.Int64, generator: generator);
        Tensor codes = stack([a, a + noise, noise, arange(N, ScalarType.Int64), zeros(N, ScalarType.Int64)], 1);
        double[,] matrix = MutualInformation.Matrix(codes), named = MutualInformation.Matrix(-7 * codes * codes * codes + 1000), normal = MutualInformation.Matrix(codes, normalize: true);
        for (int i = 0; i < 5; i++)
        {
            for (int j = 0; j < 5; j++)
            {
                Assert.True(matrix[i, j] >= 0);
                Assert.Equal(matrix[i, j], matrix[j, i]);
                Assert.Equal(matrix[i, j], named[i, j], 1e-9);
            }
            double[] p = [.. codes[.., i].unique(return_counts: true).counts!.data<long>().ToArray().Select(c => c / (double)N)];
            Assert.Equal(-p.Sum(x => x * Math.Log(x)), matrix[i, i], 1e-9);
            Assert.Equal(matrix[i, i], matrix[i, 3], 1e-9); // an id determines everything
            Assert.Equal(i == 4 ? 0 : 1, normal[i, i], 1e-12);
            Assert.Equal(0, normal[i, 4]);
        }
        Assert.Equal(matrix[0, 1] / Math.Sqrt(matrix[0, 0] * matrix[1, 1]), normal[0, 1], 1e-12);
        Assert.Throws<ArgumentException>(() => MutualInformation.Matrix(ones(3, 2)));
        Assert.Throws<ArgumentException>(() => MutualInformation.OfCounts(new long[2, 2]));
        Assert.Throws<ArgumentException>(() => MutualInformation.OfCounts(new long[,] { { 1, -1 } }));
    }

    private static Tensor Samples(long[,] counts)
    {
        long[] rows = [.. Enumerable.Range(0, counts.GetLength(0)).SelectMany(i => Enumerable.Range(0, counts.GetLength(1)).SelectMany(j => Enumerable.Repeat(new long[] { i, j }, (int)counts[i, j]))).SelectMany(x => x)];
        return tensor(rows).view(-1, 2);
    }
}
