using System.Diagnostics;
using System.Security.Cryptography;
using Priori.Runtime;

namespace Priori.Tests.Cli;

/// <summary>The contract of a run that is killed: SIGKILL at random moments, resumed each time, ends with the same weights to the bit.</summary>
public sealed class KilledRunTests : IDisposable
{
    private const int Kills = 4;
    private static readonly string[] s_run = ["run", "early-learning-regularization", "--budget", "smoke", "--seeds", "3", "--threads", "1", "--checkpoint-every", "0.05"];
    private readonly string _folder = Directory.CreateTempSubdirectory("priori-kill-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_run_killed_and_resumed_ends_with_the_same_weights_to_the_bit()
    {
        string whole = Path.Combine(_folder, "whole"), killed = Path.Combine(_folder, "killed");
        Assert.Equal(0, Start([.. s_run, "--out", whole], null));
        string[] next = [.. s_run, "--out", killed];
        var random = new SplitMix64(11);
        int kills = 0;
        while (kills < Kills)
        {
            // Killed a random while after its first checkpoint or finished arm appears, never before: so each start makes progress.
            if (Start(next, random) == 0) break;
            kills++;
            next = ["run", "--resume", RunFolder(killed), "--threads", "1"];
        }
        Assert.True(kills >= 2, $"The run ended after {kills} kills.");
        if (!File.Exists(Path.Combine(RunFolder(killed), "result.json"))) Assert.Equal(0, Start(["run", "--resume", RunFolder(killed), "--threads", "1"], null));
        Assert.Equal(Models(RunFolder(whole)), Models(RunFolder(killed)));
    }

    private static string RunFolder(string root) => Assert.Single(Directory.GetDirectories(Path.Combine(root, "early-learning-regularization")));

    private static SortedDictionary<string, string> Models(string run)
    {
        var hashes = new SortedDictionary<string, string>();
        foreach (string file in Directory.GetFiles(Path.Combine(run, "model"), "*.safetensors"))
            hashes[Path.GetFileName(file)] = Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)));
        Assert.NotEmpty(hashes);
        return hashes;
    }

    /// <summary>Starts the command line; with <paramref name="random"/>, kills it. Returns the exit code.</summary>
    private int Start(string[] args, SplitMix64? random)
    {
        var info = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Priori.Cli.dll"), .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        info.Environment["PRIORI_DATA"] = _folder; // Default data: no real dataset here.
        info.Environment["OMP_NUM_THREADS"] = "1";
        int before = Saved();
        using Process process = Process.Start(info)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        if (random is not null)
        {
            while (!process.HasExited && Saved() == before) Thread.Sleep(2);
            if (!process.WaitForExit(random.Next(400))) process.Kill();
        }
        process.WaitForExit();
        if (process.ExitCode is not (0 or 137)) Assert.Fail(error.Result + output.Result);
        return process.ExitCode;
    }

    /// <summary>A number that changes whenever a checkpoint or a finished arm appears.</summary>
    private int Saved()
    {
        var hash = default(HashCode);
        foreach (string file in Directory.EnumerateFiles(_folder, "*", new EnumerationOptions { RecurseSubdirectories = true, IgnoreInaccessible = true }).Where(f => f.Contains("step-", StringComparison.Ordinal) || f.Contains("arms", StringComparison.Ordinal)).Order())
            hash.Add(file);
        return hash.ToHashCode();
    }
}
