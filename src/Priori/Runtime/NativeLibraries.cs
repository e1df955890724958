using System.Buffers.Binary;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using TorchSharp;

namespace Priori.Runtime;

/// <summary>
/// Loads libtorch before the first tensor. On systems whose libstdc++ lacks the symbol version GLIBCXX_3.4.32 (Debian 12,
/// Ubuntu 22.04) the binding library is loaded from a copy in which that one version requirement is marked weak: the
/// library names the version but uses no symbol that needs it. Systems that have it are left alone.
/// </summary>
public static class NativeLibraries
{
    private const string MissingVersion = "GLIBCXX_3.4.32";
    private const string BindingLibrary = "libLibTorchSharp.so";

    /// <summary>What libLibTorchSharp needs, dependencies first, loaded by path so that a copy elsewhere finds them by name.</summary>
    private static readonly string[] s_dependencies = ["libgomp-98b21ff3.so.1", "libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so", "libtorch.so"];

    private static readonly Lock s_gate = new();
    private static bool s_done;
    private static nint s_binding;

    /// <summary>
    /// Makes the native library usable. Called by itself when the Priori assembly is first used; call it first in a
    /// program that uses TorchSharp before any part of Priori.
    /// </summary>
#pragma warning disable CA2255 // The library must be ready before any code of this assembly touches a tensor.
    [ModuleInitializer]
#pragma warning restore CA2255
    public static void Initialize()
    {
        lock (s_gate)
        {
            if (s_done) return;
            s_done = true;
            if (!OperatingSystem.IsLinux()) return;
            LoadBindingLibrary();
            if (Find("libtorch_cpu.so") is not null) ChooseConvolutions();
        }
    }

    /// <summary>
    /// A copy of a shared library (ELF64, little endian) in which the version requirement <paramref name="version"/> is weak
    /// (flag VER_FLG_WEAK = 2 of its <c>vernaux</c> entry in <c>.gnu.version_r</c>), so that a missing version no longer stops loading.
    /// </summary>
    /// <exception cref="InvalidDataException">The file is not such a library or has no such requirement.</exception>
    public static byte[] WithWeakVersion(ReadOnlySpan<byte> library, string version)
    {
        const uint SectionVersionNeeds = 0x6ffffffe;
        const int HeaderSize = 64, SectionSize = 64;
        if (library.Length < HeaderSize || !library.StartsWith("\x7f"u8[..1]) || !library[1..].StartsWith("ELF\u0002\u0001"u8))
            throw new InvalidDataException("Not a 64-bit little-endian ELF library.");
        byte[] copy = library.ToArray();
        try
        {
            long sections = BinaryPrimitives.ReadInt64LittleEndian(library[40..]);
            int sectionCount = BinaryPrimitives.ReadUInt16LittleEndian(library[60..]);
            for (int s = 0; s < sectionCount; s++)
            {
                ReadOnlySpan<byte> section = library.Slice(checked((int)sections) + s * SectionSize, SectionSize);
                if (BinaryPrimitives.ReadUInt32LittleEndian(section[4..]) != SectionVersionNeeds) continue;
                int needs = checked((int)BinaryPrimitives.ReadInt64LittleEndian(section[24..]));
                int link = (int)BinaryPrimitives.ReadUInt32LittleEndian(section[40..]);
                int strings = checked((int)BinaryPrimitives.ReadInt64LittleEndian(library[(checked((int)sections) + link * SectionSize + 24)..]));
                for (int need = needs; ;)
                {
                    int auxiliary = need + (int)BinaryPrimitives.ReadUInt32LittleEndian(library[(need + 8)..]);
                    int count = BinaryPrimitives.ReadUInt16LittleEndian(library[(need + 2)..]);
                    for (int a = 0; a < count; a++)
                    {
                        ReadOnlySpan<byte> name = library[(strings + (int)BinaryPrimitives.ReadUInt32LittleEndian(library[(auxiliary + 8)..]))..];
                        if (Encoding.ASCII.GetString(name[..name.IndexOf((byte)0)]) == version)
                        {
                            ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(library[(auxiliary + 4)..]);
                            BinaryPrimitives.WriteUInt16LittleEndian(copy.AsSpan(auxiliary + 4), (ushort)(flags | 2));
                            return copy;
                        }
                        auxiliary += (int)BinaryPrimitives.ReadUInt32LittleEndian(library[(auxiliary + 12)..]);
                    }
                    int next = (int)BinaryPrimitives.ReadUInt32LittleEndian(library[(need + 12)..]);
                    if (next == 0) break;
                    need += next;
                }
            }
        }
        catch (Exception e) when (e is ArgumentOutOfRangeException or OverflowException)
        {
            throw new InvalidDataException("The ELF section table points outside the file.", e);
        }
        throw new InvalidDataException($"The library asks for no symbol version {version}.");
    }

    private static void LoadBindingLibrary()
    {
        string? original = Find(BindingLibrary);
        if (original is null) return; // Not in a probing folder: TorchSharp's own message names what is missing.
        foreach (string dependency in s_dependencies)
            if (Find(dependency) is { } path)
                NativeLibrary.TryLoad(path, out _);
        try
        {
            NativeLibrary.Load(original);
            return;
        }
        catch (DllNotFoundException e) when (e.Message.Contains(MissingVersion, StringComparison.Ordinal))
        {
        }
        s_binding = NativeLibrary.Load(WriteCopy(File.ReadAllBytes(original)));
        NativeLibrary.SetDllImportResolver(typeof(torch).Assembly, Resolve);
    }

    /// <summary>
    /// Turns NNPACK off: where it does not know the processor, as on many virtual machines, it writes a warning for each convolution;
    /// everywhere else the same convolutions then give the same numbers. Turns oneDNN off where it computes convolutions wrongly
    /// (seen with libtorch 2.10 on a virtual machine: input channels above the vector width and no multiple of it); right ones are left alone.
    /// </summary>
    private static void ChooseConvolutions()
    {
        SetContextFlag("_ZN2at7Context20setUserEnabledNNPACKEb", false);
        if (!ConvolutionIsRight()) SetContextFlag("_ZN2at7Context20setUserEnabledMkldnnEb", false);
    }

    /// <summary>Whether float32 convolutions of 12 and 24 channels agree with float64, forward and backward.</summary>
    internal static bool ConvolutionIsRight()
    {
        using var scope = NewDisposeScope();
        foreach (long channels in new[] { 12L, 24, 40 })
        {
            Tensor x = arange(2 * channels * 81, ScalarType.Float32).sin_().reshape(2, channels, 9, 9), w = arange(32 * channels * 9, ScalarType.Float32).cos_().reshape(32, channels, 3, 3);
            if (Differs(x, w) || Differs(x, w.narrow(0, 0, 24).contiguous())) return false;
        }
        return true;

        static bool Differs(Tensor x, Tensor w)
        {
            (Tensor y, Tensor gx, Tensor gw) = Convolve(x, w, ScalarType.Float32);
            (Tensor y64, Tensor gx64, Tensor gw64) = Convolve(x, w, ScalarType.Float64);
            return !(Far(y, y64) < 1e-3) || !(Far(gx, gx64) < 1e-3) || !(Far(gw, gw64) < 1e-3); // NaN differs too.
        }

        static (Tensor, Tensor, Tensor) Convolve(Tensor x, Tensor w, ScalarType dtype)
        {
            Tensor input = x.to(dtype, copy: true).requires_grad_(), weight = w.to(dtype, copy: true).requires_grad_();
            Tensor y = nn.functional.conv2d(input, weight, padding: [1, 1]);
            y.sin().sum().backward();
            return (y.detach(), input.grad!, weight.grad!);
        }

        static double Far(Tensor a, Tensor b) => ((a.to(ScalarType.Float64) - b).abs().max() / b.abs().max()).ToDouble();
    }

    /// <summary>Sets a flag of <c>at::globalContext()</c> that TorchSharp does not bind.</summary>
    private static unsafe void SetContextFlag(string setter, bool value)
    {
        if (Find("libtorch_cpu.so") is not { } path || !NativeLibrary.TryLoad(path, out nint library)
            || !NativeLibrary.TryGetExport(library, "_ZN2at13globalContextEv", out nint context)
            || !NativeLibrary.TryGetExport(library, setter, out nint set))
            return;
        ((delegate* unmanaged<nint, byte, void>)set)(((delegate* unmanaged<nint>)context)(), value ? (byte)1 : (byte)0);
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath)
        => name.Contains("LibTorchSharp", StringComparison.Ordinal) ? s_binding : 0;

    private static string? Find(string file)
    {
        string probing = AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "";
        return probing.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(AppContext.BaseDirectory)
            .Append(Path.Combine(AppContext.BaseDirectory, "runtimes", RuntimeInformation.RuntimeIdentifier, "native"))
            .Append(Path.Combine(AppContext.BaseDirectory, "runtimes", "linux-x64", "native"))
            .Select(folder => Path.Combine(folder, file))
            .FirstOrDefault(File.Exists);
    }

    private static string WriteCopy(byte[] original)
    {
        byte[] patched = WithWeakVersion(original, MissingVersion);
        string hash = Convert.ToHexStringLower(SHA256.HashData(patched))[..16];
        string cache = Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify);
        string target = Path.Combine(cache, "priori", "native", hash, BindingLibrary);
        try
        {
            if (cache.Length == 0) throw new IOException("No folder for local application data.");
            if (File.Exists(target) && File.ReadAllBytes(target).AsSpan().SequenceEqual(patched)) return target;
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            string temporary = target + "." + Guid.NewGuid().ToString("N");
            File.WriteAllBytes(temporary, patched);
            File.Move(temporary, target, overwrite: true);
            return target;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A private folder of this process: nobody else can put a library there.
            target = Path.Combine(Directory.CreateTempSubdirectory("priori-native-").FullName, BindingLibrary);
            File.WriteAllBytes(target, patched);
            return target;
        }
    }
}
