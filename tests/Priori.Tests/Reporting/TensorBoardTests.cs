using System.Buffers.Binary;
using System.Text;
using Priori.Reporting;

namespace Priori.Tests.Reporting;

public sealed class TensorBoardTests
{
    /// <summary>CRC-32C bit by bit from its reflected polynomial (RFC 3720, appendix B.4), independent of the writer's.</summary>
    private static uint Crc32C(ReadOnlySpan<byte> data)
    {
        uint crc = ~0u;
        foreach (byte b in data)
        {
            crc ^= b;
            for (int bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
        }
        return ~crc;
    }

    private static uint Masked(ReadOnlySpan<byte> data)
    {
        uint crc = Crc32C(data);
        return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
    }

    private static List<byte[]> ReadRecords(string path)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using BinaryReader reader = new(file);
        List<byte[]> records = [];
        while (file.Position < file.Length)
        {
            byte[] length = reader.ReadBytes(8);
            Assert.Equal(Masked(length), reader.ReadUInt32());
            byte[] data = reader.ReadBytes((int)BinaryPrimitives.ReadInt64LittleEndian(length));
            Assert.Equal(Masked(data), reader.ReadUInt32());
            records.Add(data);
        }
        return records;
    }

    /// <summary>The fields of a protocol-buffer message: number to raw value (varint as its number, else the bytes).</summary>
    private static Dictionary<int, object> Decode(ReadOnlySpan<byte> message)
    {
        Dictionary<int, object> fields = [];
        int at = 0;
        ulong Varint(ReadOnlySpan<byte> m)
        {
            ulong value = 0;
            for (int shift = 0; ; shift += 7)
            {
                byte b = m[at++];
                value |= (ulong)(b & 0x7F) << shift;
                if (b < 0x80) return value;
            }
        }
        while (at < message.Length)
        {
            ulong key = Varint(message);
            int length;
            switch (key & 7)
            {
                case 0: fields[(int)(key >> 3)] = Varint(message); continue;
                case 1: length = 8; break;
                case 2: length = (int)Varint(message); break;
                default: length = 4; break;
            }
            fields[(int)(key >> 3)] = message.Slice(at, length).ToArray();
            at += length;
        }
        return fields;
    }

    [Fact]
    public void The_checksum_of_the_standard_check_string_is_the_published_one() => Assert.Equal(0xE3069283, Crc32C("123456789"u8));

    [Fact]
    public void Scalars_are_read_back_with_tag_value_step_and_time_while_the_file_is_open()
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        DateTimeOffset time = new(2026, 1, 2, 3, 4, 5, 500, TimeSpan.Zero);
        using TensorBoardWriter writer = new(folder, time);
        writer.Scalar("train/loss", 0.25, 300, time);
        writer.Scalar("test/accuracy (é)", double.NaN, 5_000_000_000);

        Assert.StartsWith("events.out.tfevents.1767323045.", Path.GetFileName(writer.FilePath), StringComparison.Ordinal);
        List<byte[]> records = ReadRecords(writer.FilePath);
        Assert.Equal(3, records.Count);
        Assert.Equal("brain.Event:2", Encoding.UTF8.GetString((byte[])Decode(records[0])[3]));

        Dictionary<int, object> first = Decode(records[1]), value = Decode((byte[])Decode((byte[])first[5])[1]);
        Assert.Equal(1767323045.5, BitConverter.ToDouble((byte[])first[1]));
        Assert.Equal(300UL, first[2]);
        Assert.Equal("train/loss", Encoding.UTF8.GetString((byte[])value[1]));
        Assert.Equal(0.25f, BitConverter.ToSingle((byte[])value[2]));

        Dictionary<int, object> second = Decode(records[2]), other = Decode((byte[])Decode((byte[])second[5])[1]);
        Assert.Equal(5_000_000_000UL, second[2]);
        Assert.Equal("test/accuracy (é)", Encoding.UTF8.GetString((byte[])other[1]));
        Assert.True(float.IsNaN(BitConverter.ToSingle((byte[])other[2])));
    }

    [Fact]
    public void Bad_arguments_are_refused()
    {
        using TensorBoardWriter writer = new(Directory.CreateTempSubdirectory().FullName);
        Assert.Throws<ArgumentException>(() => writer.Scalar("", 1, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Scalar("a", 1, -1));
    }
}
