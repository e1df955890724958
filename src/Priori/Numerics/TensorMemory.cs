using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Priori.Numerics;

/// <summary>Raw access to the memory of CPU tensors, for loops that torch has no routine for.</summary>
internal static unsafe class TensorMemory
{
    /// <summary>The address of a contiguous CPU tensor's first element. It lives as long as the tensor: keep the tensor referenced.</summary>
    public static T* Pointer<T>(Tensor tensor) where T : unmanaged
    {
        if (tensor.device.type != DeviceType.CPU || !tensor.is_contiguous())
            throw new ArgumentException("Raw access needs a contiguous tensor on the CPU.", nameof(tensor));
        if (tensor.numel() == 0) return null;
        using var first = tensor.view(-1).narrow(0, 0, 1); // Span<byte> ends at two gigabytes; its address does not
        return (T*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(first.bytes));
    }

    /// <summary>The tensor as contiguous float32 on the CPU; itself where it already is.</summary>
    public static Tensor ToFloat32(Tensor tensor) => tensor.to(ScalarType.Float32).cpu().contiguous();

    /// <summary>Options of our own parallel loops: as many threads as torch uses, and one where the work is less than about a tenth of a millisecond, which a hand-over to another thread would outlast.</summary>
    /// <param name="multiplyAdds">The work of the whole loop.</param>
    public static ParallelOptions Threads(double multiplyAdds) => new() { MaxDegreeOfParallelism = multiplyAdds < 8e6 ? 1 : Math.Max(1, get_num_threads()) };
}
