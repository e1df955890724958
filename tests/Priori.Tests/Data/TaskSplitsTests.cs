using Priori.Data;

namespace Priori.Tests.Data;

public sealed class TaskSplitsTests
{
    [Fact]
    public void Classes_are_split_once_each_by_the_seed_alone()
    {
        Tensor labels = tensor(new long[] { 9, 3, 3, 0, 7, 5, 1, 1, 2, 4, 6, 8 });
        IReadOnlyList<IReadOnlyList<long>> tasks = TaskSplits.ClassIncremental(labels, 3, seed: 4);
        Assert.Equal([3, 3, 3, 1], tasks.Select(t => t.Count));
        Assert.Equal(Enumerable.Range(0, 10).Select(c => (long)c), tasks.SelectMany(t => t).Order());
        Assert.Equal(tasks, TaskSplits.ClassIncremental(labels.flip(0), 3, seed: 4));
        Assert.NotEqual(tasks.SelectMany(t => t), TaskSplits.ClassIncremental(labels, 3, seed: 5).SelectMany(t => t));
        TaskSplits.CheckDisjoint(tasks);
        Assert.Equal([1L, 2, 6, 7], TaskSplits.Rows(labels, [3, 1]).data<long>().ToArray());
    }

    [Fact]
    public void Empty_and_overlapping_tasks_are_refused()
    {
        Tensor labels = tensor(new long[] { 0, 1 });
        Assert.Contains("no samples", Assert.Throws<ArgumentException>(() => TaskSplits.Rows(labels, [7])).Message);
        Assert.Contains("Class 2 occurs in task 1 and in task 3", Assert.Throws<ArgumentException>(() => TaskSplits.CheckDisjoint([[1, 2], [3], [2]])).Message);
        Assert.Contains("Task 2 has no class", Assert.Throws<ArgumentException>(() => TaskSplits.CheckDisjoint([[1], []])).Message);
        Assert.Throws<ArgumentException>(() => TaskSplits.ClassIncremental(labels.to(float32), 1, 0));
    }

    [Fact]
    public void Quarter_turns_agree_with_interpolated_rotation_and_the_eight_symmetries_differ()
    {
        Tensor images = rand(2, 1, 6, 6);
        for (int turns = 0; turns < 4; turns++)
            Assert.True(TaskSplits.Rotated(images, 90 * turns).allclose(TaskSplits.Dihedral(images, turns), atol: 1e-5));
        Assert.True(TaskSplits.Dihedral(images, 4).allclose(images.flip(3)));
        Assert.Equal(8, Enumerable.Range(0, 8).Select(e => Convert.ToHexString(TaskSplits.Dihedral(images, e).bytes.ToArray())).Distinct().Count());
        Tensor right = zeros(1, 1, 3, 3);
        right[0, 0, 1, 2] = 1; // counter-clockwise: what is on the right goes to the top
        Assert.Equal(1, TaskSplits.Dihedral(right, 1)[0, 0, 0, 1].ToSingle());
    }

    [Fact]
    public void A_permutation_keeps_the_values_and_follows_the_seed()
    {
        Tensor images = arange(2 * 3 * 16, int64).view(2, 3, 4, 4);
        Tensor permuted = TaskSplits.Permuted(images, 1);
        Assert.NotEqual(images.bytes.ToArray(), permuted.bytes.ToArray());
        Assert.Equal(images.sum(dim: [2, 3]).bytes.ToArray(), permuted.sum(dim: [2, 3]).bytes.ToArray());
        Assert.Equal(permuted.bytes.ToArray(), TaskSplits.Permuted(images, 1).bytes.ToArray());
        Assert.True((permuted[1, 2] - permuted[0, 0]).eq(80).all().item<bool>()); // all images and channels alike
    }
}
