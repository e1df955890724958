namespace Priori.Nn;

/// <summary>Collisions of one feature.</summary>
/// <param name="Feature">Its name.</param>
/// <param name="Values">Values |V_t|.</param>
/// <param name="OccupiedCodes">Different codes of its values, over its chunks.</param>
/// <param name="Shared">Share of its lookups (value and chunk) with a code that another value of the feature has in the same chunk: noise that no model can undo.</param>
/// <param name="SharedWithOthers">Share of its lookups with a code that another feature or chunk uses: the model behind can learn to tell these apart.</param>
/// <param name="Indistinguishable">Share of its values that have all codes in common with another one, so that no model can tell them apart.</param>
public sealed record FeatureCollisions(string Feature, long Values, long OccupiedCodes, double Shared, double SharedWithOthers, double Indistinguishable);

/// <summary>How the values of vocabularies share the rows (or numbers) of an embedding scheme.</summary>
/// <param name="Codes">Rows (or numbers) there are.</param>
/// <param name="OccupiedCodes">Those that some value uses.</param>
/// <param name="Values">Values over all features.</param>
/// <param name="Shared">Share of the lookups that collide within their feature and chunk.</param>
/// <param name="SharedWithOthers">Share of the lookups that collide with another feature or chunk.</param>
/// <param name="Indistinguishable">Share of the values that have all codes in common with another one of their feature.</param>
/// <param name="Features">The same for each feature.</param>
public sealed record CollisionReport(long Codes, long OccupiedCodes, long Values, double Shared, double SharedWithOthers, double Indistinguishable, IReadOnlyList<FeatureCollisions> Features)
{
    /// <summary>Expected number of different rows that n values hash to: M (1 - (1 - 1/M)^n).</summary>
    /// <param name="values">Values n.</param>
    /// <param name="rows">Rows M, at least 1.</param>
    public static double ExpectedOccupied(long values, long rows) => -rows * double.ExpM1(values * double.LogP1(-1.0 / rows));

    /// <summary>Counts the collisions of vocabularies under a scheme.</summary>
    /// <param name="scheme">The scheme.</param>
    /// <param name="vocabularies">The values of each feature, in the order of the features; each value once.</param>
    /// <exception cref="ArgumentException">There are not as many vocabularies as features.</exception>
    public static CollisionReport Of(EmbeddingScheme scheme, IReadOnlyList<IReadOnlyList<string>> vocabularies)
    {
        ArgumentNullException.ThrowIfNull(scheme);
        ArgumentNullException.ThrowIfNull(vocabularies);
        if (vocabularies.Count != scheme.Features.Count) throw new ArgumentException($"{scheme.Features.Count} vocabularies are needed, not {vocabularies.Count}.", nameof(vocabularies));
        // All lookups, sorted by code and then by chunk: a run of one code is everything that shares it.
        List<(long Code, int Chunk, int Feature)> lookups = [];
        long[] same = new long[vocabularies.Count], within = new long[vocabularies.Count], across = new long[vocabularies.Count], occupied = new long[vocabularies.Count], counts = new long[vocabularies.Count];
        int firstChunk = 0;
        for (int t = 0; t < vocabularies.Count; t++)
        {
            long[] codes = new long[scheme.Features[t].Chunks * scheme.CodesPerChunk];
            Dictionary<string, int> tuples = new(StringComparer.Ordinal);
            foreach (string value in vocabularies[t])
            {
                scheme.Encode(t, value, codes);
                for (int i = 0; i < codes.Length; i++)
                {
                    int chunk = i / scheme.CodesPerChunk, start = chunk * scheme.CodesPerChunk;
                    if (codes.AsSpan(start, i - start).Contains(codes[i])) continue; // One value that meets itself is no collision.
                    lookups.Add((codes[i], firstChunk + chunk, t));
                    counts[t]++;
                }
                string tuple = string.Join(',', codes);
                tuples[tuple] = tuples.GetValueOrDefault(tuple) + 1;
            }
            same[t] = tuples.Values.Where(n => n > 1).Sum();
            firstChunk += scheme.Features[t].Chunks;
        }
        lookups.Sort();
        long codesInUse = 0;
        for (int start = 0, end; start < lookups.Count; start = end)
        {
            for (end = start; end < lookups.Count && lookups[end].Code == lookups[start].Code; end++)
            {
            }
            codesInUse++;
            bool shared = lookups[start].Chunk != lookups[end - 1].Chunk;
            for (int i = start, run; i < end; i = run)
            {
                (_, int chunk, int feature) = lookups[i];
                for (run = i; run < end && lookups[run].Chunk == chunk; run++)
                {
                }
                if (run - i > 1) within[feature] += run - i;
                if (shared) across[feature] += run - i;
                if (i == start || lookups[i - 1].Feature != feature) occupied[feature]++;
            }
        }
        static double Share(long part, long whole) => whole == 0 ? 0 : (double)part / whole;
        long values = vocabularies.Sum(v => (long)v.Count);
        return new CollisionReport(scheme.CodeCount, codesInUse, values, Share(within.Sum(), counts.Sum()), Share(across.Sum(), counts.Sum()), Share(same.Sum(), values),
            [.. vocabularies.Select((v, t) => new FeatureCollisions(scheme.Features[t].Name, v.Count, occupied[t], Share(within[t], counts[t]), Share(across[t], counts[t]), Share(same[t], v.Count)))]);
    }
}
