using System.Runtime.CompilerServices;
using Priori.Runtime;

namespace Priori.Tests.Runtime;

internal static class TestSetup
{
#pragma warning disable CA2255 // Tests may touch a tensor before any part of Priori.
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Initialize()
    {
        NativeLibraries.Initialize();
        torch.set_num_threads(1);
    }
}
