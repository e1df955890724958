using Priori.Nn;
using Priori.Numerics;

namespace Priori.Merging;

/// <summary>Which unit of network B belongs to which unit of network A, for every permutation group.</summary>
/// <param name="Permutations">By the group's name: element a is the unit of B that matches unit a of A, int64 [units].</param>
/// <param name="Scores">By the group's name: similarity of unit a of A and unit b of B, float64 [units, units]; higher is more alike.</param>
/// <param name="Objective">The maximised objective after each sweep of an iterative matching; empty for a direct one.</param>
public sealed record MatchResult(IReadOnlyDictionary<string, long[]> Permutations, IReadOnlyDictionary<string, Tensor> Scores, IReadOnlyList<double> Objective)
{
    /// <summary>Unit a belongs to unit a: no alignment, as simple averaging assumes.</summary>
    /// <param name="spec">The wiring.</param>
    public static MatchResult Identity(PermutationSpec spec)
    {
        ArgumentNullException.ThrowIfNull(spec);
        return new MatchResult(
            spec.Groups.ToDictionary(g => g.Name, g => Enumerable.Range(0, (int)g.Size).Select(i => (long)i).ToArray()),
            spec.Groups.ToDictionary(g => g.Name, g => eye(g.Size, dtype: float64)),
            []);
    }
}

/// <summary>How alike two units are, each a vector of its activations over all inputs and positions of a batch.</summary>
public enum ActivationSimilarity
{
    /// <summary>Minus the Euclidean distance.</summary>
    Distance,
    /// <summary>The inner product.</summary>
    InnerProduct,
}

/// <summary>
/// Activation matching (Ainsworth et al., Git Re-Basin, ICLR 2023, section 3.1; PLeaS, section 3.1): units that respond alike to the same inputs belong
/// together. Similarities are summed over batches and over all places where a group's activations are read; an exact linear assignment maximises their sum.
/// </summary>
public static class ActivationMatching
{
    /// <summary>Matches the units of two networks of the same wiring.</summary>
    /// <param name="a">Network A, put into evaluation mode.</param>
    /// <param name="b">Network B, put into evaluation mode.</param>
    /// <param name="spec">The wiring; its sites name the layers whose inputs are compared.</param>
    /// <param name="inputs">Unlabelled inputs [n, ...].</param>
    /// <param name="similarity">The similarity of two units.</param>
    /// <param name="batchSize">Inputs a batch.</param>
    /// <param name="maxBatches">Most batches used; 100 in the published code.</param>
    /// <param name="seed">Seed of the order of the inputs.</param>
    /// <exception cref="ArgumentException">There are no inputs, a group has no site, or activations do not hold the group's units.</exception>
    public static MatchResult Match(
        Module<Tensor, Tensor> a, Module<Tensor, Tensor> b, PermutationSpec spec, Tensor inputs,
        ActivationSimilarity similarity = ActivationSimilarity.Distance, int batchSize = 32, int maxBatches = 100, int seed = 0)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        ArgumentNullException.ThrowIfNull(spec);
        Calibration.Require(inputs, "Activation matching");
        if (spec.Groups.FirstOrDefault(g => g.Sites.Count == 0) is { } siteless)
            throw new ArgumentException($"Group '{siteless.Name}' has no site where its activations can be seen; use weight matching.", nameof(spec));
        a.eval();
        b.eval();
        string[] layers = [.. spec.Groups.SelectMany(g => g.Sites).Where(s => s != PermutationGroup.OutputSite).Distinct()];
        var scores = spec.Groups.ToDictionary(g => g.Name, g => zeros(g.Size, g.Size, float64));
        using (no_grad())
        using (var ofA = new ActivationRecorder(a, layers))
        using (var ofB = new ActivationRecorder(b, layers))
            foreach (long[] rows in Calibration.Batches(inputs.shape[0], batchSize, maxBatches, seed))
            {
                using var scope = NewDisposeScope();
                Tensor x = inputs.index_select(0, tensor(rows, device: inputs.device));
                Tensor outputA = a.call(x), outputB = b.call(x);
                foreach (PermutationGroup group in spec.Groups)
                    foreach (string site in group.Sites)
                        scores[group.Name].add_(site == PermutationGroup.OutputSite
                            ? Similarity(outputA, outputB, group, similarity)
                            : Similarity(ofA.Inputs[site], ofB.Inputs[site], group, similarity));
            }
        return new MatchResult(
            scores.ToDictionary(s => s.Key, s => Array.ConvertAll(LinearAssignment.Maximize(s.Value), j => (long)j)),
            scores, []);
    }

    private static Tensor Similarity(Tensor a, Tensor b, PermutationGroup group, ActivationSimilarity similarity)
    {
        Tensor Units(Tensor activations)
        {
            Tensor table = ActivationRecorder.Flatten(activations).to(float64);
            if (table.shape[1] % group.Size != 0) throw new ArgumentException($"Activations of width {table.shape[1]} do not hold the {group.Size} units of group '{group.Name}'.");
            return table.view(table.shape[0], group.Size, -1).transpose(0, 1).flatten(1);
        }
        Tensor x = Units(a), y = Units(b);
        Tensor inner = x.matmul(y.t());
        if (similarity == ActivationSimilarity.InnerProduct) return inner.cpu();
        Tensor squares = x.square().sum(1).unsqueeze(1) + y.square().sum(1).unsqueeze(0) - 2 * inner;
        return -squares.clamp_min(0).sqrt().cpu();
    }
}
