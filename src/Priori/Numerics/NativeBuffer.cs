using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;

namespace Priori.Numerics;

/// <summary>
/// A native array of more than two billion elements if need be, aligned to 64 bytes, that grows at its end. One that was mapped from a file reads
/// the file's pages on demand and moves into memory of its own when it first grows; the file is never written.
/// </summary>
internal sealed unsafe class NativeBuffer<T> : IDisposable where T : unmanaged
{
    private MemoryMappedFile? _file;
    private MemoryMappedViewAccessor? _view;
    private long _capacity;
    private T* _pointer;

    /// <summary>An array of zeros.</summary>
    public NativeBuffer(long length = 0) => Resize(length);

    private NativeBuffer(MemoryMappedFile file, MemoryMappedViewAccessor view, T* pointer, long length)
    {
        (_file, _view, Length, _capacity) = (file, view, length, length);
        _pointer = pointer;
    }

    public long Length { get; private set; }

    public T* Pointer => _pointer;

    public bool IsMapped => _view != null;

    public ref T this[long index] => ref _pointer[index];

    /// <summary>Maps a whole file, which must hold exactly <paramref name="length"/> elements.</summary>
    /// <exception cref="InvalidDataException">The file is missing or has another size.</exception>
    public static NativeBuffer<T> Map(string path, long length)
    {
        var info = new FileInfo(path);
        if (!info.Exists) throw new InvalidDataException($"{path}: the file is missing.");
        if (info.Length != length * sizeof(T))
            throw new InvalidDataException($"{path}: the file has {info.Length} bytes, but {length * sizeof(T)} belong to it.");
        if (length == 0) return new NativeBuffer<T>();
        var file = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
        var view = file.CreateViewAccessor(0, info.Length, MemoryMappedFileAccess.Read);
        byte* pointer = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        return new NativeBuffer<T>(file, view, (T*)pointer, length);
    }

    public Span<T> Slice(long start, int length) => new(_pointer + start, length);

    /// <summary>Sets the length; new elements are zero.</summary>
    public void Resize(long length)
    {
        if (length > _capacity || _view != null)
        {
            var capacity = Math.Max(length, _capacity == 0 ? 0 : _capacity + _capacity / 2);
            var grown = (T*)NativeMemory.AlignedAlloc((nuint)Math.Max(capacity, 1) * (nuint)sizeof(T), 64);
            var kept = Math.Min(Length, length);
            if (kept > 0) NativeMemory.Copy(_pointer, grown, (nuint)kept * (nuint)sizeof(T));
            Release();
            _pointer = grown;
            _capacity = capacity;
            Length = kept;
        }
        if (length > Length) NativeMemory.Clear(_pointer + Length, (nuint)(length - Length) * (nuint)sizeof(T));
        Length = length;
    }

    public void Append(ReadOnlySpan<T> values)
    {
        var start = Length;
        Resize(start + values.Length);
        values.CopyTo(Slice(start, values.Length));
    }

    public void Write(Stream stream)
    {
        const int chunk = 1 << 20;
        for (long i = 0; i < Length; i += chunk)
            stream.Write(MemoryMarshal.AsBytes(Slice(i, (int)Math.Min(chunk, Length - i))));
    }

    private void Release()
    {
        if (_view != null)
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _file!.Dispose();
            _view = null;
        }
        else
        {
            NativeMemory.AlignedFree(_pointer);
        }
        _pointer = null;
    }

    public void Dispose()
    {
        Release();
        (Length, _capacity) = (0, 0);
        GC.SuppressFinalize(this);
    }

    ~NativeBuffer()
    {
        if (_view == null) NativeMemory.AlignedFree(_pointer); // a mapped view has a finalizer of its own
    }
}
