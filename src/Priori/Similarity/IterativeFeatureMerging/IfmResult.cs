using Priori.Nn;

namespace Priori.Similarity;

/// <summary>One merge.</summary>
/// <param name="Round">Round, from 0; a round merges at most one pair of each group.</param>
/// <param name="Group">The group's name.</param>
/// <param name="First">Position of the first feature among those that the group has at this moment.</param>
/// <param name="Second">Position of the second, above the first. The merged feature becomes the last one; the others keep their order.</param>
/// <param name="Distance">The pair's squared distance, the smallest of the group.</param>
/// <param name="LargestDistance">The largest squared distance of the group.</param>
public sealed record MergeStep(int Round, string Group, int First, int Second, double Distance, double LargestDistance);

/// <summary>A network after iterative feature merging.</summary>
/// <param name="State">Tensors by name, of the given types; those that no group names are copies.</param>
/// <param name="Spec">The wiring at the new widths.</param>
/// <param name="WidthByGroup">Features left in each group that took part: its feature complexity.</param>
/// <param name="Groups">For each of these groups the original features that every remaining one stands for, in the order of the new features.</param>
/// <param name="MergeLog">The merges in order.</param>
public sealed record IfmResult(IReadOnlyDictionary<string, Tensor> State, PermutationSpec Spec, IReadOnlyDictionary<string, long> WidthByGroup, IReadOnlyDictionary<string, int[][]> Groups, IReadOnlyList<MergeStep> MergeLog)
{
    /// <summary>The description of the narrower network, into which the state loads; null when only a wiring was given.</summary>
    public Architecture? Architecture { get; init; }

    /// <summary>The narrower network, in evaluation mode.</summary>
    /// <exception cref="InvalidOperationException">Only a wiring was given.</exception>
    public Network ToNetwork()
    {
        var network = new Network(Architecture ?? throw new InvalidOperationException("The checkpoint was merged by its wiring alone; without an architecture it cannot be run."));
        network.Load(State).eval();
        return network;
    }
}
