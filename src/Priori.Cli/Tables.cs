using System.Globalization;
using Priori.Reproduction;
using Spectre.Console;

namespace Priori.Cli;

internal static class Tables
{
    public static void Write(IAnsiConsole console, TableInfo table)
    {
        Write(console, table.Caption, table.Header, table.Rows);
    }

    public static void Write(IAnsiConsole console, string caption, IReadOnlyList<string> header, IEnumerable<IReadOnlyList<string>> rows)
    {
        var view = new Table { Border = TableBorder.Simple };
        if (caption.Length > 0) view.Title = new TableTitle(Markup.Escape(caption));
        foreach (string column in header) view.AddColumn(new TableColumn(Markup.Escape(column)));
        foreach (IReadOnlyList<string> row in rows) view.AddRow([.. row.Select(cell => new Text(cell))]);
        console.Write(view);
    }

    public static void WriteClaims(IAnsiConsole console, RunResult result) => Write(console, $"Claims of {result.Id} ({result.Budget.ToString().ToLowerInvariant()} budget; {result.Data})",
        ["claim", "measured", "threshold", "verdict"],
        result.Claims.Select(c => (IReadOnlyList<string>)[c.Text, Number(c.Measured), $"{(c.Comparison == Comparison.AtLeast ? "≥" : "≤")} {Number(c.Threshold)}", Words(c.Verdict)]));

    public static string Words(Verdict verdict) => verdict switch
    {
        Verdict.Holds => "holds",
        Verdict.DoesNotHold => "DOES NOT HOLD",
        Verdict.NotJudged => "not judged",
        _ => "not measured",
    };

    private static string Number(double value) => value.ToString("G4", CultureInfo.InvariantCulture);
}
