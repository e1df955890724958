namespace Priori.Data;

/// <summary>
/// Walks a structure of Thrift's compact protocol (Apache Thrift, "Thrift Compact protocol encoding"), which Parquet files use for their footer and page
/// headers, so that a damaged one is refused before a parser that trusts its lengths sees it.
/// </summary>
internal ref struct ThriftCheck(ReadOnlySpan<byte> bytes)
{
    private const int MaximumDepth = 32;

    private readonly ReadOnlySpan<byte> bytes = bytes;

    /// <summary>Bytes walked so far.</summary>
    public int Position { get; private set; }

    /// <summary>Walks a structure to its end.</summary>
    /// <param name="integers">Takes the integers of its own fields, by field number; may be null.</param>
    /// <param name="depth">How deep it is nested.</param>
    /// <exception cref="InvalidDataException">The structure runs over the end, nests too deep, or has a type that does not exist.</exception>
    public void Struct(Dictionary<int, long>? integers = null, int depth = 0)
    {
        if (depth > MaximumDepth) throw new InvalidDataException("the metadata is nested too deep");
        for (long field = 0; ;)
        {
            int header = Byte(), type = header & 15;
            if (header == 0) return;
            field = header >> 4 == 0 ? ZigZag() : field + (header >> 4);
            if (type is >= 4 and <= 6)
            {
                long value = ZigZag();
                if (integers is not null && field is >= 0 and <= int.MaxValue) integers[(int)field] = value;
            }
            else if (type is not (1 or 2)) Value(type, depth); // Booleans are in the header.
        }
    }

    private void Value(int type, int depth)
    {
        switch (type)
        {
            case 1 or 2 or 3: Skip(1); break;
            case 4 or 5 or 6: ZigZag(); break;
            case 7: Skip(8); break;
            case 8: Skip(VarInt()); break;
            case 9 or 10:
                int header = Byte();
                ulong count = header >> 4 == 15 ? VarInt() : (ulong)(header >> 4);
                // Each element takes a byte at least.
                if (count > (ulong)(bytes.Length - Position)) throw Overrun();
                for (; count > 0; count--) Element(header & 15, depth);
                break;
            case 11:
                ulong pairs = VarInt();
                if (pairs == 0) break;
                int types = Byte();
                if (pairs > (ulong)(bytes.Length - Position)) throw Overrun();
                for (; pairs > 0; pairs--)
                {
                    Element(types >> 4, depth);
                    Element(types & 15, depth);
                }
                break;
            case 12: Struct(null, depth + 1); break;
            case 13: Skip(16); break;
            default: throw new InvalidDataException($"the metadata has a value of the unknown type {type}");
        }
    }

    private void Element(int type, int depth)
    {
        if (depth > MaximumDepth) throw new InvalidDataException("the metadata is nested too deep");
        Value(type, depth + 1);
    }

    private int Byte() => Position < bytes.Length ? bytes[Position++] : throw Overrun();

    private void Skip(ulong count)
    {
        if (count > (ulong)(bytes.Length - Position)) throw Overrun();
        Position += (int)count;
    }

    private ulong VarInt()
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            int part = Byte();
            value |= (ulong)(part & 127) << shift;
            if (part < 128) return value;
        }
        throw new InvalidDataException("the metadata has an integer of more than 64 bits");
    }

    private long ZigZag()
    {
        ulong value = VarInt();
        return (long)(value >> 1) ^ -(long)(value & 1);
    }

    private static InvalidDataException Overrun() => new("the metadata runs over its end");
}
