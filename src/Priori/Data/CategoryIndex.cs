using System.IO.Hashing;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Priori.Data;

/// <summary>
/// The ids 1, 2, ... of known categories; 0 is any other text. A search touches one place of the hash table and the text that it names, which lies beside the others':
/// with many categories the time is that of fetching these two from memory.
/// </summary>
internal sealed class CategoryIndex
{
    private static readonly long Seed = Random.Shared.NextInt64(); // Texts cannot be made to collide on purpose.
    private readonly Place[] places;
    private readonly char[] texts;

    /// <param name="categories">The categories, each once.</param>
    public CategoryIndex(IReadOnlyList<string> categories)
    {
        places = new Place[BitOperations.RoundUpToPowerOf2((uint)(2 * categories.Count) + 1)];
        texts = new char[categories.Sum(category => category.Length)];
        int end = 0;
        for (int c = 0; c < categories.Count; c++)
        {
            string category = categories[c];
            uint hash = Hash(category), place = hash;
            while (At(place).Id != 0) place++;
            category.CopyTo(texts.AsSpan(end));
            At(place) = new Place(hash, c + 1, end, category.Length);
            end += category.Length;
        }
    }

    public int Find(ReadOnlySpan<char> text)
    {
        uint hash = Hash(text);
        for (uint at = hash; ; at++)
        {
            Place place = At(at);
            if (place.Id == 0 || (place.Hash == hash && text.SequenceEqual(texts.AsSpan(place.Start, place.Length)))) return place.Id;
        }
    }

    private ref Place At(uint place) => ref places[place & (uint)(places.Length - 1)];

    private static uint Hash(ReadOnlySpan<char> text) => (uint)XxHash3.HashToUInt64(MemoryMarshal.AsBytes(text), Seed);

    private readonly record struct Place(uint Hash, int Id, int Start, int Length);
}
