using System.Buffers.Binary;
using System.Text;

namespace Priori.Reporting;

/// <summary>
/// Writes scalars to an event file that TensorBoard reads: TFRecord frames (length, masked CRC-32C of the length, data, masked
/// CRC-32C of the data; all little-endian) around <c>tensorflow.Event</c> messages.
/// Every scalar is on disk when <see cref="Scalar"/> returns, so a run can be watched while it goes. Not safe for use from several threads.
/// </summary>
public sealed class TensorBoardWriter : IDisposable
{
    private readonly FileStream _stream;

    /// <summary>Starts an event file.</summary>
    /// <param name="folder">The log directory to give to TensorBoard; made when it does not exist. Each folder below it is one run.</param>
    /// <param name="started">Time in the name of the file and of its first event; null for now.</param>
    public TensorBoardWriter(string folder, DateTimeOffset? started = null)
    {
        DateTimeOffset time = started ?? DateTimeOffset.UtcNow;
        Directory.CreateDirectory(folder);
        FilePath = Path.Combine(folder, $"events.out.tfevents.{time.ToUnixTimeSeconds()}.priori.{Guid.NewGuid().ToString("N")[..8]}");
        _stream = new FileStream(FilePath, FileMode.CreateNew, FileAccess.Write, FileShare.Read);
        // The first event names the version of the format; TensorBoard expects it.
        WriteEvent(Seconds(time), 0, message => WriteBytes(message, 3, Encoding.UTF8.GetBytes("brain.Event:2")));
    }

    /// <summary>The event file.</summary>
    public string FilePath { get; }

    /// <summary>Writes one scalar.</summary>
    /// <param name="tag">Its name, such as train/loss; tags with the same first part are shown together.</param>
    /// <param name="value">Its value; stored as float32.</param>
    /// <param name="step">Step or epoch, at least 0.</param>
    /// <param name="time">When it was measured; null for now.</param>
    public void Scalar(string tag, double value, long step, DateTimeOffset? time = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(tag);
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        using MemoryStream scalar = new();
        WriteBytes(scalar, 1, Encoding.UTF8.GetBytes(tag)); // Summary.Value.tag
        scalar.WriteByte((2 << 3) | 5);                     // Summary.Value.simple_value, 32 bits
        Span<byte> bits = stackalloc byte[4];
        BinaryPrimitives.WriteSingleLittleEndian(bits, (float)value);
        scalar.Write(bits);
        using MemoryStream summary = new();
        WriteBytes(summary, 1, scalar.ToArray());           // Summary.value
        WriteEvent(Seconds(time ?? DateTimeOffset.UtcNow), step, message => WriteBytes(message, 5, summary.ToArray()));
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    /// <summary>Event: wall_time (1, double), step (2, int64) and one further field.</summary>
    private void WriteEvent(double wallTime, long step, Action<Stream> field)
    {
        using MemoryStream message = new();
        message.WriteByte((1 << 3) | 1);
        Span<byte> bits = stackalloc byte[8];
        BinaryPrimitives.WriteDoubleLittleEndian(bits, wallTime);
        message.Write(bits);
        message.WriteByte(2 << 3);
        WriteVarint(message, (ulong)step);
        field(message);

        ReadOnlySpan<byte> data = message.GetBuffer().AsSpan(0, (int)message.Length);
        byte[] frame = new byte[8 + 4 + data.Length + 4];
        BinaryPrimitives.WriteInt64LittleEndian(frame, data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(8), MaskedCrc(frame.AsSpan(0, 8)));
        data.CopyTo(frame.AsSpan(12));
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(12 + data.Length), MaskedCrc(data));
        _stream.Write(frame);
        _stream.Flush();
    }

    private static void WriteBytes(Stream stream, int field, ReadOnlySpan<byte> bytes)
    {
        stream.WriteByte((byte)((field << 3) | 2));
        WriteVarint(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }

    private static void WriteVarint(Stream stream, ulong value)
    {
        for (; value >= 0x80; value >>= 7) stream.WriteByte((byte)(value | 0x80));
        stream.WriteByte((byte)value);
    }

    /// <summary>TFRecord's masking: the checksum rotated right by 15 bits plus a constant, so that a checksum of data that holds checksums stays strong.</summary>
    private static uint MaskedCrc(ReadOnlySpan<byte> data)
    {
        uint crc = 0xFFFFFFFF;
        foreach (byte b in data) crc = System.Numerics.BitOperations.Crc32C(crc, b);
        return System.Numerics.BitOperations.RotateRight(~crc, 15) + 0xA282EAD8;
    }

    private static double Seconds(DateTimeOffset time) => (time - DateTimeOffset.UnixEpoch).TotalSeconds;
}
