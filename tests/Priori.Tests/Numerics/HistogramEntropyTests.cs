using Priori.Numerics;

namespace Priori.Tests.Numerics;

public class HistogramEntropyTests
{
    [Fact]
    public void Entropy_of_counts_is_in_bits()
    {
        Assert.Equal(1.75, HistogramEntropy.OfCounts(tensor([4L, 2, 1, 1, 0])), 12);
        Assert.Equal(0, HistogramEntropy.OfCounts(tensor([7L])), 12);
        Assert.Equal(10, HistogramEntropy.OfCounts(ones(1024, int64)), 12);
        Assert.Throws<ArgumentException>(() => HistogramEntropy.OfCounts(zeros(3, int64)));
    }

    [Fact]
    public void Equal_rows_are_grouped_and_different_ones_never()
    {
        manual_seed(0);
        Tensor codes = randint(0, 3, [9000, 5], int32); // 243 rows, more than one block.
        RowGroups groups = HistogramEntropy.GroupRows(codes);
        Tensor packed = (codes.to(int64) * tensor([81L, 27, 9, 3, 1])).sum(1);
        (_, Tensor? ids, Tensor? counts) = packed.unique(return_inverse: true, return_counts: true);
        Assert.Equal(243, groups.Counts.shape[0]);
        Assert.Equal(counts!.sort().Values.data<long>().ToArray(), groups.Counts.sort().Values.data<long>().ToArray());
        // One to one: as many pairs as groups.
        Assert.Equal(243, (ids! * 243 + groups.Ids).unique().output.shape[0]);
    }

    [Fact]
    public void A_collision_of_hashes_does_not_merge_rows()
    {
        // The hash of salt 0 is a linear form a x + b y modulo 2^64 with odd a: (b, -a) collides with (0, 0).
        var random = Priori.Runtime.SplitMix64.For(0);
        long a = (long)(random.NextUInt64() | 1), b = (long)(random.NextUInt64() | 1);
        Tensor codes = tensor(new[,] { { 0, 0 }, { b, unchecked(-a) }, { 0, 0 } });
        Assert.Equal([1, 2], HistogramEntropy.GroupRows(codes).Counts.sort().Values.data<long>().ToArray());
    }

    [Fact]
    public void Mutual_information_of_a_copy_is_its_entropy_and_of_independent_ones_zero()
    {
        Tensor a = tensor([0L, 0, 1, 1]), b = tensor([5L, -5, 5, -5]);
        RowGroups x = HistogramEntropy.GroupRows(a), y = HistogramEntropy.GroupRows(b);
        Assert.Equal(1, HistogramEntropy.MutualInformation(x, x), 12);
        Assert.Equal(0, HistogramEntropy.MutualInformation(x, y), 12);
    }

    [Fact]
    public void Real_numbers_are_refused()
    {
        Assert.Throws<ArgumentException>(() => HistogramEntropy.GroupRows(rand(4)));
        Assert.Throws<ArgumentException>(() => HistogramEntropy.GroupRows(zeros([0, 2], int64)));
    }
}
