using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Priori.Recipes;

namespace Priori.Tests;

/// <summary>Every C# sample in the README and the methods' pages compiles against the library, and every built method has its page.</summary>
public partial class DocumentationTests
{
    private static readonly string s_root = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "..", ".."));

    [Fact]
    public void Every_csharp_sample_compiles()
    {
        string trusted = (string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!;
        MetadataReference[] references = [.. trusted.Split(Path.PathSeparator).Select(p => MetadataReference.CreateFromFile(p))];
        const string Usings = "global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq; global using System.Threading.Tasks; global using TorchSharp; global using static TorchSharp.torch; global using static TorchSharp.torch.nn;";
        int samples = 0;
        foreach (string page in Pages())
        {
            foreach (Match match in Sample().Matches(File.ReadAllText(page)))
            {
                samples++;
                var options = new CSharpParseOptions(LanguageVersion.Latest);
                var compilation = CSharpCompilation.Create("sample", [CSharpSyntaxTree.ParseText(Usings, options), CSharpSyntaxTree.ParseText(match.Groups[1].Value, options)], references,
                    new CSharpCompilationOptions(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));
                string[] errors = [.. compilation.GetDiagnostics().Where(d => d.Severity == DiagnosticSeverity.Error).Select(d => $"{Path.GetFileName(page)}: {d}")];
                Assert.Empty(errors);
            }
        }
        Assert.True(samples > 0);
    }

    [Fact]
    public void Every_built_method_has_its_page_with_a_sample_and_a_measured_table()
    {
        foreach (string id in RecipeCatalog.All.Select(r => r.Id))
        {
            string page = Path.Combine(s_root, "docs", "methods", id + ".md");
            Assert.True(File.Exists(page), $"{page} is missing.");
            string text = File.ReadAllText(page);
            Assert.Matches(@"Last verified:\W*\d{4}-\d{2}-\d{2}", text);
            Assert.Matches(@"\|\W*[\d.]+", text);
            Assert.Matches(Sample(), text);
        }
    }

    private static IEnumerable<string> Pages() => Directory.EnumerateFiles(Path.Combine(s_root, "docs"), "*.md", SearchOption.AllDirectories).Append(Path.Combine(s_root, "README.md"));

    private static string Here([CallerFilePath] string path = "") => path;

    [GeneratedRegex(@"```csharp\r?\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Sample();
}
