using System.CommandLine;
using System.Globalization;
using Priori.Data;
using Spectre.Console;

namespace Priori.Cli.Commands;

/// <summary><c>priori data list|get|import|path</c>: real datasets.</summary>
internal static class DataCommand
{
    public static Command Create(IAnsiConsole console)
        => new("data", "Real datasets: list, download with checksum and resume, import from a folder, path.") { List(console), Get(console), Import(console), PathOf(console) };

    private static Command List(IAnsiConsole console)
    {
        var folder = CommonOptions.DataFolder();
        var json = CommonOptions.Json();
        var command = new Command("list", "The datasets that recipes use, and which are present.") { folder, json };
        command.SetAction(parsed =>
        {
            DataFolder data = Folder(parsed, folder);
            if (parsed.GetValue(json))
            {
                CommonOptions.WriteJson(DatasetRegistry.All.Select(d => new { d.Name, d.Title, d.Licence, d.Home, d.Note, d.HasAddress, Folder = data.Find(d.Name) }));
            }
            else
            {
                Tables.Write(console, $"Datasets in {data.Root}", ["name", "title", "licence", "present"],
                    DatasetRegistry.All.Select(d => (IReadOnlyList<string>)[d.Name, d.Title, d.Licence, data.Find(d.Name) is not null ? "yes" : d.HasAddress ? "no (priori data get)" : "no (priori data import)"]));
            }
            return Failures.Done;
        });
        return command;
    }

    private static Command Get(IAnsiConsole console)
    {
        var name = new Argument<string>("name") { Description = "The dataset." };
        var mirror = new Option<string?>("--mirror") { Description = "Base address to use in place of the official one.", HelpName = "URL" };
        var folder = CommonOptions.DataFolder();
        var command = new Command("get", "Downloads a dataset from its official address; continues a partial download; verifies its checksums.") { name, mirror, folder };
        command.SetAction(async (parsed, cancellation) =>
        {
            DataFolder data = Folder(parsed, folder);
            bool live = !Console.IsErrorRedirected;
            var progress = new Inline<DownloadProgress>(p =>
            {
                if (live) Console.Error.Write($"\r\u001b[K{p.File}: {Megabytes(p.Received)}{(p.Total is { } total ? $" of {Megabytes(total)}" : "")}");
            });
            DatasetReport report = await DatasetDownloader.DownloadAsync(DatasetRegistry.Get(parsed.GetRequiredValue(name)), data, parsed.GetValue(mirror), progress, cancellation).ConfigureAwait(false);
            if (live) Console.Error.Write("\r\u001b[K");
            Show(console, report);
            return Failures.Done;
        });
        return command;
    }

    private static Command Import(IAnsiConsole console)
    {
        var name = new Argument<string>("name") { Description = "The dataset." };
        var source = new Argument<string>("dir") { Description = "Folder that holds its files." };
        var folder = CommonOptions.DataFolder();
        var command = new Command("import", "Takes a dataset from a folder, without network, and verifies its checksums.") { name, source, folder };
        command.SetAction(parsed =>
        {
            Show(console, DatasetImporter.Import(DatasetRegistry.Get(parsed.GetRequiredValue(name)), parsed.GetRequiredValue(source), Folder(parsed, folder)));
            return Failures.Done;
        });
        return command;
    }

    private static Command PathOf(IAnsiConsole console)
    {
        var name = new Argument<string>("name") { Description = "The dataset." };
        var folder = CommonOptions.DataFolder();
        var command = new Command("path", "Prints the folder of a dataset.") { name, folder };
        command.SetAction(parsed =>
        {
            DataFolder data = Folder(parsed, folder);
            string wanted = parsed.GetRequiredValue(name);
            string path = data.Find(wanted) ?? throw new Runtime.BadInputException($"Dataset '{wanted}' is not in {data.Root}: use priori data get {wanted}, or priori data import {wanted} DIR.");
            console.WriteLine(path);
            return Failures.Done;
        });
        return command;
    }

    private static DataFolder Folder(ParseResult parsed, Option<string?> option) => new(parsed.GetValue(option));

    private static string Megabytes(long bytes) => (bytes / 1e6).ToString("F1", CultureInfo.InvariantCulture) + " MB";

    private static void Show(IAnsiConsole console, DatasetReport report)
        => Tables.Write(console, report.Folder, ["file", "bytes", "checksum"],
            report.Files.Select(f => (IReadOnlyList<string>)[f.Path, f.Bytes.ToString(CultureInfo.InvariantCulture), f.Verification.ToString().ToLowerInvariant()]));

    private sealed class Inline<T>(Action<T> report) : IProgress<T>
    {
        public void Report(T value) => report(value);
    }
}
