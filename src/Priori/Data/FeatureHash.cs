using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace Priori.Data;

/// <summary>
/// The hash that gives values of categorical features their rows in a table: 64-bit FNV-1a (Fowler, Noll, Vo) of the UTF-8 text
/// <c>{feature}|{chunk}|{value}</c>, then the 64-bit finaliser of MurmurHash3 (Appleby). The feature's index and the number of the lookup are inside the
/// hashed key, so the functions of different features are independent: equal values of two features do not collide in a fixed pattern. It is the same on
/// every system and in every process, so a saved table stays usable. (Coleman et al., NeurIPS 2023, use their framework's salted SipHash.)
/// </summary>
public static class FeatureHash
{
    /// <summary>Name of this hash, kept beside saved tables.</summary>
    public const string Id = "fnv1a64-fmix64";

    private const ulong OffsetBasis = 0xcbf29ce484222325, Prime = 0x100000001b3;

    /// <summary>64-bit FNV-1a.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="state">The hash of what came before; by default of nothing.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Fnv1a(ReadOnlySpan<byte> bytes, ulong state = OffsetBasis)
    {
        foreach (byte b in bytes) state = (state ^ b) * Prime;
        return state;
    }

    /// <summary>The 64-bit finaliser of MurmurHash3: every bit of the input changes every bit of the output with probability near one half.</summary>
    /// <param name="hash">A hash.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Finalize(ulong hash)
    {
        hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
        hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
        return hash ^ (hash >> 33);
    }

    /// <summary>The state of FNV-1a after the part of the key that all values of a feature share; compute it once for a feature and chunk.</summary>
    /// <param name="feature">Index of the feature, at least 0.</param>
    /// <param name="chunk">Number of the lookup within the feature, at least 0.</param>
    /// <param name="seed">0 is the documented key; any other number <c>s</c> puts <c>s/</c> before it and so draws another hash function.</param>
    /// <param name="salted">False leaves the feature out of the key, <c>{chunk}|{value}</c>: then equal values of all features share their rows. For ablations only.</param>
    public static ulong Prefix(int feature, int chunk, int seed = 0, bool salted = true)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(feature);
        ArgumentOutOfRangeException.ThrowIfNegative(chunk);
        string text = string.Create(CultureInfo.InvariantCulture, $"{(seed == 0 ? "" : $"{seed}/")}{(salted ? $"{feature}|" : "")}{chunk}|");
        return Fnv1a(Encoding.UTF8.GetBytes(text));
    }

    /// <summary>Hash of a value after its <see cref="Prefix"/>. Nothing is allocated.</summary>
    /// <param name="prefix">The state after the feature and chunk.</param>
    /// <param name="value">The value; it is hashed as UTF-8.</param>
    public static ulong Hash(ulong prefix, ReadOnlySpan<char> value)
    {
        ulong state = prefix;
        for (int i = 0; i < value.Length; i++)
        {
            uint c = value[i];
            if (c < 0x80)
            {
                state = Append(state, c);
            }
            else if (c < 0x800)
            {
                state = Append(Append(state, 0xC0 | c >> 6), 0x80 | c & 0x3F);
            }
            else if (!char.IsSurrogate((char)c))
            {
                state = Append(Append(Append(state, 0xE0 | c >> 12), 0x80 | c >> 6 & 0x3F), 0x80 | c & 0x3F);
            }
            else
            {
                return Finalize(AppendRunes(state, value[i..]));
            }
        }
        return Finalize(state);
    }

    /// <summary>Hash of a value after its <see cref="Prefix"/>.</summary>
    /// <param name="prefix">The state after the feature and chunk.</param>
    /// <param name="utf8">The value in UTF-8.</param>
    public static ulong Hash(ulong prefix, ReadOnlySpan<byte> utf8) => Finalize(Fnv1a(utf8, prefix));

    /// <summary>Hash of <c>{feature}|{chunk}|{value}</c>.</summary>
    /// <param name="feature">Index of the feature, at least 0.</param>
    /// <param name="chunk">Number of the lookup within the feature, at least 0.</param>
    /// <param name="value">The value.</param>
    public static ulong Hash(int feature, int chunk, ReadOnlySpan<char> value) => Hash(Prefix(feature, chunk), value);

    /// <summary>Hash of a whole number, written in decimal digits.</summary>
    /// <param name="feature">Index of the feature, at least 0.</param>
    /// <param name="chunk">Number of the lookup within the feature, at least 0.</param>
    /// <param name="value">The number.</param>
    public static ulong Hash(int feature, int chunk, long value)
    {
        Span<byte> digits = stackalloc byte[20];
        value.TryFormat(digits, out int length, provider: CultureInfo.InvariantCulture);
        return Hash(Prefix(feature, chunk), digits[..length]);
    }

    /// <summary>The row of a hash: the remainder, unsigned.</summary>
    /// <param name="hash">The hash.</param>
    /// <param name="rows">Rows of the table, at least 1.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Row(ulong hash, long rows) => (long)(hash % (ulong)rows);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Append(ulong state, uint octet) => (state ^ octet) * Prime;

    private static ulong AppendRunes(ulong state, ReadOnlySpan<char> text)
    {
        Span<byte> bytes = stackalloc byte[4];
        foreach (Rune rune in text.EnumerateRunes()) state = Fnv1a(bytes[..rune.EncodeToUtf8(bytes)], state);
        return state;
    }
}
