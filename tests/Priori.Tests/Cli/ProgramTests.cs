using Priori.Cli;
using Priori.Recipes;
using Spectre.Console;

namespace Priori.Tests.Cli;

public sealed class ProgramTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-cli-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void List_shows_all_sixty_methods_and_marks_the_planned_ones()
    {
        (int code, string output, _) = Priori("list");
        Assert.Equal(0, code);
        Assert.True(MethodCatalog.All.Count >= 60);
        Assert.Equal(MethodCatalog.All.Count, MethodCatalog.All.Select(m => m.Id).Distinct().Count());
        foreach (Method method in MethodCatalog.All) Assert.Contains(method.Id, output, StringComparison.Ordinal);
        Assert.Equal(MethodCatalog.All.Count(m => m.Recipe is null), output.Split("planned").Length - 1);
        Assert.Equal(RecipeCatalog.All.Count, MethodCatalog.All.Count(m => m.Recipe is not null));
    }

    [Fact]
    public void Show_prints_the_options_of_every_built_method()
    {
        foreach (string id in RecipeCatalog.All.Select(r => r.Id))
        {
            (int code, string output, _) = Priori("show", id);
            Assert.Equal(0, code);
            Assert.Contains("--set name=value", output, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("nonsense", "nonsense")]
    [InlineData("run nonsense", "unknown")]
    [InlineData("run helixsurf", "planned")]
    [InlineData("run", "Name a method")]
    [InlineData("run muvera --no-such-option", "--no-such-option")]
    [InlineData("run muvera --set nonsense=1", "unknown")]
    [InlineData("run muvera --set nonsense", "name=value")]
    [InlineData("run muvera --budget huge", "smoke, full or paper")]
    [InlineData("run muvera --seeds a", "whole numbers")]
    [InlineData("run muvera --seeds 1,1", "twice")]
    [InlineData("run muvera --data /no/such/path", "/no/such/path")]
    [InlineData("run muvera --target y", "--data")]
    [InlineData("run muvera --device tpu", "cpu, cuda")]
    [InlineData("run muvera --threads 0", "at least 1")]
    [InlineData("run --resume /no/such/run", "/no/such/run")]
    [InlineData("apply /no/such/run --data .", "/no/such/run")]
    [InlineData("apply .", "--data")]
    [InlineData("verify", "--all")]
    [InlineData("list --area Nowhere", "areas are")]
    [InlineData("data path nonsense", "nonsense")]
    [InlineData("data get nonsense", "nonsense")]
    public void Wrong_usage_is_one_sentence_on_standard_error_and_exit_code_2(string line, string says)
    {
        (int code, _, string error) = Priori(line.Split(' '));
        Assert.Equal(2, code);
        Assert.Contains(says, error, StringComparison.Ordinal);
        Assert.Single(error.TrimEnd().Split('\n'));
        Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_cuda_device_that_is_absent_names_the_package_to_add()
    {
        Assert.SkipWhen(cuda_is_available(), "This machine has CUDA.");
        (int code, _, string error) = Priori("run", "muvera", "--device", "cuda");
        Assert.Equal(2, code);
        Assert.Contains("libtorch-cuda", error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_full_disk_is_a_failure_of_the_machine()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "Needs /dev/full.");
        var error = new StringWriter();
        Exception full = Assert.ThrowsAny<IOException>(() =>
        {
            using var stream = new FileStream("/dev/full", FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0);
            stream.Write(new byte[10]);
        });
        Assert.Equal(3, Failures.Report(full, error));
        Assert.Single(error.ToString().TrimEnd().Split('\n'));
    }

    [Fact]
    public void Interruption_exits_130() => Assert.Equal(130, Failures.Report(new OperationCanceledException(), new StringWriter()));

    private (int Code, string Output, string Error) Priori(params string[] args)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = AnsiSupport.No, ColorSystem = ColorSystemSupport.NoColors, Out = new AnsiConsoleOutput(output) });
        console.Profile.Width = 250;
        string before = Environment.CurrentDirectory;
        Environment.CurrentDirectory = _folder;
        try
        {
            return (Program.Invoke(args, console, error), output.ToString(), error.ToString());
        }
        finally
        {
            Environment.CurrentDirectory = before;
            set_num_threads(1);
        }
    }
}
