using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Priori.Reproduction;

namespace Priori.Reporting;

/// <summary>
/// The report of a run as one HTML file that opens without network or scripts: verdicts first, then figures of the arms, pictures,
/// tables, options and where it ran. Every text from outside is escaped, and the page forbids itself to load anything.
/// </summary>
public static partial class HtmlReport
{
    private const string Style = """
        :root{color-scheme:light dark;--ink:#1f2328;--muted:#59636e;--line:#d8dee4;--card:#f6f8fa;--page:#fff;--good:#00684a;--bad:#a63c00;--link:#005a8d}
        @media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--muted:#9198a1;--line:#30363d;--card:#161b22;--page:#0d1117;--good:#4ac99b;--bad:#ff9a5c;--link:#6cb6ff}}
        *{box-sizing:border-box}
        body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem 4rem;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Inter,Roboto,"Helvetica Neue",sans-serif}
        h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 .4rem}
        h2{font-size:1.2rem;margin:2.4rem 0 .8rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
        a{color:var(--link)} p{margin:.4rem 0} .muted{color:var(--muted)} code,pre{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
        pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;overflow-x:auto}
        .chip{display:inline-block;border:1px solid var(--line);border-radius:1rem;padding:.05rem .7rem;margin-right:.4rem;font-size:.85rem;color:var(--muted)}
        .headline{font-size:1.35rem;font-weight:650;margin:1.4rem 0 .8rem}
        .claim{border:1px solid var(--line);border-left:5px solid var(--muted);border-radius:8px;background:var(--card);padding:.7rem 1rem;margin:.6rem 0}
        .claim.holds{border-left-color:var(--good)} .claim.fails{border-left-color:var(--bad)}
        .verdict{font-weight:650} .holds .verdict,.headline.holds{color:var(--good)} .fails .verdict,.headline.fails{color:var(--bad)}
        .scroll{overflow-x:auto} table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4rem 0}
        th,td{padding:.35rem .9rem .35rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top} th{font-weight:600;color:var(--muted);font-size:.9rem} td.n,th.n{text-align:right;white-space:nowrap}
        figure{margin:1.4rem 0} img{display:block;max-width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:8px} figcaption{color:var(--muted);margin-top:.4rem;max-width:48rem}
        details{margin:.6rem 0} summary{cursor:pointer;color:var(--muted)} li{margin:.3rem 0}
        """;

    /// <summary>Renders the report.</summary>
    /// <param name="result">What the run found.</param>
    /// <param name="folder">The run folder, for the figures; one that is missing is named instead of shown.</param>
    /// <returns>The HTML page.</returns>
    public static string Render(RunResult result, string folder)
    {
        ArgumentNullException.ThrowIfNull(result);
        StringBuilder html = new();
        html.Append("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">")
            .Append("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">")
            .Append(CultureInfo.InvariantCulture, $"<title>{Text(result.Title)} · {Text(result.Id)}</title>\n<style>\n{Style}\n</style></head><body>\n");
        Head(html, result);
        Claims(html, result);
        Arms(html, result);
        Figures(html, result, folder);
        Tables(html, result);
        if (result.Notes.Count > 0) html.Append("<h2>Notes</h2>\n<ul>").AppendJoin("", result.Notes.Select(n => $"<li>{Text(n)}</li>")).Append("</ul>\n");
        Setting(html, result);
        html.Append("</body></html>\n");
        return html.ToString();
    }

    private static void Head(StringBuilder html, RunResult result)
    {
        Paper paper = result.Paper;
        string title = Uri.TryCreate(paper.Url, UriKind.Absolute, out Uri? url) && url.Scheme is "http" or "https"
            ? $"<a href=\"{Text(url!.AbsoluteUri)}\" rel=\"noreferrer\">{Text(paper.Title)}</a>" : Text(paper.Title);
        html.Append(CultureInfo.InvariantCulture, $"<header><h1>{Text(result.Title)}</h1>\n<p class=\"muted\">{Text(paper.Authors)}: {title}. {Text(paper.Venue)}, {paper.Year}.</p>\n")
            .Append(CultureInfo.InvariantCulture, $"<p><span class=\"chip\">{Text(result.Id)}</span><span class=\"chip\">{result.Budget.ToString().ToLowerInvariant()} budget</span>")
            .Append(CultureInfo.InvariantCulture, $"<span class=\"chip\">{Count(result.Seeds.Count, "seed")}</span><span class=\"chip\">{Duration(result.Seconds)}</span><span class=\"chip\">{result.Started:yyyy-MM-dd HH:mm}</span></p>\n")
            .Append(CultureInfo.InvariantCulture, $"<p><b>Data:</b> {Text(result.Data.Length > 0 ? result.Data : "not stated")}{(result.DataPath is null ? "" : $" (<code>{Text(result.DataPath)}</code>)")}</p></header>\n");
    }

    private static void Claims(StringBuilder html, RunResult result)
    {
        if (result.Claims.Count == 0) return;
        int judged = result.Claims.Count(c => c.Verdict is Verdict.Holds or Verdict.DoesNotHold), held = result.Claims.Count(c => c.Verdict == Verdict.Holds);
        (string headline, string kind) = judged == 0
            ? (result.Budget == Budget.Smoke ? "A smoke run judges no claim" : result.DataPath is not null ? "Claims are not judged on other data" : "No claim was judged", "")
            : held == judged && judged == result.Claims.Count ? (held == 1 ? "The claim holds" : $"All {held} claims hold", "holds")
            : ($"{held} of {Count(result.Claims.Count, "claim")} {(held == 1 ? "holds" : "hold")}", held == judged ? "" : "fails");
        html.Append(CultureInfo.InvariantCulture, $"<p class=\"headline {kind}\">{headline}</p>\n");
        foreach (ClaimResult claim in result.Claims)
        {
            (string mark, string state) = claim.Verdict switch
            {
                Verdict.Holds => ("✓ holds", "holds"),
                Verdict.DoesNotHold => ("✗ does not hold", "fails"),
                Verdict.NotJudged => ("– not judged", ""),
                _ => ("– not measured", ""),
            };
            html.Append(CultureInfo.InvariantCulture, $"<div class=\"claim {state}\"><p><span class=\"verdict\">{mark}</span> · {Text(claim.Text)}</p>");
            if (claim.Verdict != Verdict.NotMeasured)
            {
                html.Append(CultureInfo.InvariantCulture, $"<p>Measured <b>{Numbers.Number(claim.Measured)}</b>, claimed {(claim.Comparison == Comparison.AtLeast ? "at least" : "at most")} <b>{Numbers.Number(claim.Threshold)}</b>");
                if (claim.PerSeed.Count > 0) html.Append(CultureInfo.InvariantCulture, $" <span class=\"muted\">(by seed: {string.Join(", ", claim.PerSeed.Select(Numbers.Number))})</span>");
                html.Append("</p>");
            }
            html.Append("</div>\n");
        }
    }

    private static void Arms(StringBuilder html, RunResult result)
    {
        if (result.Arms.Count == 0) return;
        string[] metrics = [.. result.Arms.SelectMany(a => a.Metrics.Keys).Distinct()];
        List<IReadOnlyList<string>> means = [], seeds = [];
        foreach (IGrouping<string, ArmResult> arm in result.Arms.GroupBy(a => a.Arm))
        {
            means.Add([arm.Key, .. metrics.Select(m => Numbers.MeanAndDeviation([.. arm.Where(a => a.Metrics.ContainsKey(m)).Select(a => a.Metrics[m])])), Duration(arm.Average(a => a.Seconds))]);
            seeds.AddRange(arm.Select(a => (IReadOnlyList<string>)[a.Arm, $"{a.Seed}", .. metrics.Select(m => a.Metrics.TryGetValue(m, out double v) ? Numbers.Number(v) : ""), Duration(a.Seconds)]));
        }
        bool several = result.Arms.GroupBy(a => a.Arm).Any(g => g.Count() > 1);
        html.Append("<h2>Arms</h2>\n");
        if (several) html.Append("<p class=\"muted\">Mean ± sample standard deviation over seeds.</p>\n");
        Grid(html, ["arm", .. metrics, "time"], means, 1);
        if (!several) return;
        html.Append("<details><summary>Each seed</summary>\n");
        Grid(html, ["arm", "seed", .. metrics, "time"], seeds, 1);
        html.Append("</details>\n");
    }

    private static void Figures(StringBuilder html, RunResult result, string folder)
    {
        if (result.Figures.Count == 0) return;
        html.Append("<h2>Figures</h2>\n");
        string root = Path.GetFullPath(folder) + Path.DirectorySeparatorChar;
        foreach (FigureInfo figure in result.Figures)
        {
            string path = Path.GetFullPath(Path.Combine(folder, figure.File));
            html.Append(path.StartsWith(root, StringComparison.Ordinal) && File.Exists(path)
                ? $"<figure><img alt=\"{Text(figure.Caption)}\" src=\"data:image/png;base64,{Convert.ToBase64String(File.ReadAllBytes(path))}\">"
                : $"<figure><p class=\"muted\">The file {Text(figure.File)} is missing.</p>");
            html.Append(CultureInfo.InvariantCulture, $"<figcaption>{Text(figure.Caption)}</figcaption></figure>\n");
        }
    }

    private static void Tables(StringBuilder html, RunResult result)
    {
        foreach (TableInfo table in result.Tables)
        {
            html.Append(CultureInfo.InvariantCulture, $"<h2>{Text(Sentence(table.Name))}</h2>\n<p class=\"muted\">{Text(table.Caption)}</p>\n");
            Grid(html, table.Header, table.Rows, 1);
        }
    }

    private static void Setting(StringBuilder html, RunResult result)
    {
        string parts = string.Concat(result.DataParts.Select(p => $" --data.{p.Key} {Quote(p.Value)}")), settings = string.Concat(result.Settings.Select(s => $" --set {Quote(s)}"));
        string roles = string.Concat(result.Roles.Select(r => $" --{r.Key} {Quote(r.Value)}"));
        html.Append("<h2>Run it again</h2>\n<pre>")
            .Append(Text($"priori run {result.Id} --budget {result.Budget.ToString().ToLowerInvariant()} --seeds {string.Join(',', result.Seeds)}{(result.DataPath is null ? "" : $" --data {Quote(result.DataPath)}")}{parts}{roles}{settings}"))
            .Append("</pre>\n<h2>Options</h2>\n");
        if (result.Options.ValueKind == JsonValueKind.Object && result.Options.EnumerateObject().Any())
            Grid(html, ["option", "value"], [.. result.Options.EnumerateObject().Select(o => (IReadOnlyList<string>)[Kebab().Replace(o.Name, "-$1").ToLowerInvariant(), o.Value.ValueKind == JsonValueKind.String ? o.Value.GetString()! : o.Value.GetRawText()])], 2);
        else html.Append("<p class=\"muted\">The method has no options.</p>\n");

        EnvironmentInfo e = result.Environment;
        html.Append("<h2>Environment</h2>\n");
        Grid(html, ["", ""],
        [
            ["system", e.System], ["processor", $"{e.Processor}, {Count(e.Cores, "logical core")}"], ["device", $"{e.Device}, {Count(e.Threads, "thread")}"],
            ["versions", $"Priori {e.Priori}, TorchSharp {e.Torch}, .NET {e.DotNet}"],
            ["seeds", string.Join(", ", result.Seeds)], ["started", result.Started.ToString("yyyy-MM-dd HH:mm:ss zzz", CultureInfo.InvariantCulture)], ["wall time", Duration(result.Seconds)],
            ["peak memory", string.Create(CultureInfo.InvariantCulture, $"{result.PeakMemoryBytes / (1024.0 * 1024):N0} MiB")], ["result.json", $"schema version {result.SchemaVersion}"],
        ], 2);
    }

    /// <summary>A table whose cells from column <paramref name="firstNumber"/> on are aligned to the right when they begin like numbers.</summary>
    private static void Grid(StringBuilder html, IReadOnlyList<string> header, IReadOnlyList<IReadOnlyList<string>> rows, int firstNumber)
    {
        bool IsNumber(int column) => column >= firstNumber && rows.Any(r => column < r.Count && r[column].Length > 0) && rows.All(r => column >= r.Count || r[column].Length == 0 || NumberLike().IsMatch(r[column]));
        string[] kinds = [.. header.Select((_, c) => IsNumber(c) ? " class=\"n\"" : "")];
        html.Append("<div class=\"scroll\"><table>");
        if (header.Any(h => h.Length > 0)) html.Append("<thead><tr>").AppendJoin("", header.Select((h, c) => $"<th{kinds[c]}>{Text(h)}</th>")).Append("</tr></thead>");
        html.Append("<tbody>");
        foreach (IReadOnlyList<string> row in rows)
            html.Append("<tr>").AppendJoin("", row.Select((cell, c) => $"<td{(c < kinds.Length ? kinds[c] : "")}>{Text(cell)}</td>")).Append("</tr>\n");
        html.Append("</tbody></table></div>\n");
    }

    private static string Duration(double seconds) => seconds switch
    {
        < 9.95 => seconds.ToString("0.0", CultureInfo.InvariantCulture) + " s",
        < 120 => seconds.ToString("0", CultureInfo.InvariantCulture) + " s",
        < 7200 => string.Create(CultureInfo.InvariantCulture, $"{(int)seconds / 60} min {(int)seconds % 60} s"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{(int)seconds / 3600} h {(int)seconds / 60 % 60} min"),
    };

    private static string Count(int count, string noun) => string.Create(CultureInfo.InvariantCulture, $"{count} {noun}{(count == 1 ? "" : "s")}");

    private static string Sentence(string name) => name.Length == 0 ? "Table" : char.ToUpperInvariant(name[0]) + name[1..].Replace('-', ' ');

    private static string Quote(string argument) => argument.All(c => char.IsAsciiLetterOrDigit(c) || c is '/' or '.' or '-' or '_' or '=' or ':' or ',' or '+') ? argument : $"'{argument.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private static string Text(string text) => WebUtility.HtmlEncode(text);

    [GeneratedRegex("([A-Z])")]
    private static partial Regex Kebab();

    [GeneratedRegex(@"^[-+−]?(\d|\.\d|NaN|Infinity|not a number|∞)")]
    private static partial Regex NumberLike();
}
