namespace Priori.Runtime;

/// <summary>The choice of device and of threads, in one place.</summary>
public static class Devices
{
    /// <summary>The device of a name: <c>cpu</c>, <c>cuda</c> or <c>cuda:N</c>.</summary>
    /// <param name="name">The name as the user gave it.</param>
    /// <exception cref="BadInputException">The name is unknown, the libtorch in use has no CUDA build, or the machine has no such GPU.</exception>
    public static Device Parse(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        NativeLibraries.Initialize();
        if (name == "cpu") return CPU;
        int index = 0;
        if (name != "cuda" && !(name.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(name.AsSpan(5), out index) && index >= 0))
            throw new BadInputException($"Device '{name}' is unknown: use cpu, cuda or cuda:N.");
        string package = OperatingSystem.IsWindows() ? "libtorch-cuda-12.8-win-x64" : "libtorch-cuda-12.8-linux-x64";
        if (!cuda_is_available())
            throw new BadInputException($"Device '{name}' needs an NVIDIA GPU with its driver and the CUDA build of libtorch: reference the NuGet package {package} (version 2.10) in place of libtorch-cpu-*, or use --device cpu.");
        if (index >= cuda.device_count())
            throw new BadInputException($"Device '{name}' does not exist: this machine has {cuda.device_count()} CUDA device(s).");
        return new Device(DeviceType.CUDA, index);
    }

    /// <summary>Sets how many threads one libtorch operation may use; the number of processors when nothing is said.</summary>
    /// <param name="count">At least 1.</param>
    public static void SetThreads(int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        NativeLibraries.Initialize();
        set_num_threads(count);
    }
}
