using Priori.Runtime;

namespace Priori.Tests.Runtime;

public class NativeLibrariesTests
{
    [Fact]
    public void A_tensor_works_on_this_system() => Assert.Equal(2f, torch.ones(2).sum().item<float>());

    [Fact]
    public void Convolutions_are_right_on_this_system() => Assert.True(NativeLibraries.ConvolutionIsRight());

    [Fact]
    public void Marking_a_version_weak_changes_one_entry_and_nothing_else()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "ELF libraries are of Linux.");
        string probing = (string)AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES")!;
        string library = probing.Split(Path.PathSeparator).Select(f => Path.Combine(f, "libLibTorchSharp.so")).First(File.Exists);
        byte[] original = File.ReadAllBytes(library);
        byte[] weak = NativeLibraries.WithWeakVersion(original, "GLIBCXX_3.4.32");
        int[] changed = [.. Enumerable.Range(0, original.Length).Where(i => original[i] != weak[i])];
        int at = Assert.Single(changed);
        Assert.Equal(original[at] | 2, weak[at]);
    }

    [Fact]
    public void A_file_that_is_no_library_is_refused()
    {
        Assert.Throws<InvalidDataException>(() => NativeLibraries.WithWeakVersion(new byte[10], "X"));
        byte[] hostile = new byte[64];
        "\u007fELF\u0002\u0001"u8.CopyTo(hostile);
        hostile.AsSpan(40, 20).Fill(0x7f);
        hostile.AsSpan(60, 2).Fill(0xff);
        Assert.Throws<InvalidDataException>(() => NativeLibraries.WithWeakVersion(hostile, "X"));
    }
}
