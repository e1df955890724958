using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Exporters;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Priori.Runtime;

NativeLibraries.Initialize();

// One command runs them all and writes benchmarks/results; give --filter '*Name*' for some, --list flat to see which there are.
string results = Path.Combine(Root(), "benchmarks", "results");
if (args is ["race", ..])
{
    string table = Priori.Benchmarks.Race.RunAll(args.Length > 1 && int.TryParse(args[1], out int rounds) ? rounds : 60, args.ElementAtOrDefault(2) ?? "");
    Console.Write(table);
    if (args.Length <= 2)
        AtomicFile.WriteText(Path.Combine(results, "races.md"), $"{Environment.ProcessorCount} processors, {System.Runtime.InteropServices.RuntimeInformation.OSDescription}, {DateTime.Now:yyyy-MM-dd}\n\n{table}");
    return;
}

IConfig config = ManualConfig.CreateEmpty()
    .AddColumnProvider(DefaultColumnProviders.Instance)
    .AddLogger(ConsoleLogger.Default)
    .AddExporter(MarkdownExporter.GitHub)
    .AddJob(Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithWarmupCount(2).WithIterationCount(8)) // In process: libtorch is loaded once, from one place.
    .WithArtifactsPath(results)
    .WithOptions(ConfigOptions.DisableLogFile);
BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args.Length > 0 ? args : ["--filter", "*"], config);
string raw = Path.Combine(results, "results");
if (Directory.Exists(raw))
{
    foreach (string file in Directory.GetFiles(raw, "*.md"))
        File.Move(file, Path.Combine(results, Path.GetFileName(file).Replace("-report-github", "", StringComparison.Ordinal)), overwrite: true);
    Directory.Delete(raw, recursive: true);
}

static string Root()
{
    string? folder = AppContext.BaseDirectory;
    while (folder is not null && !File.Exists(Path.Combine(folder, "Priori.slnx"))) folder = Path.GetDirectoryName(folder);
    return folder ?? Environment.CurrentDirectory;
}
