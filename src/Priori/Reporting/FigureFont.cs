using ScottPlot;
using SkiaSharp;

namespace Priori.Reporting;

/// <summary>
/// Gives ScottPlot the font that ships with this package (Inter, SIL Open Font License 1.1), so that a figure needs no
/// installed font and the same figure has the same pixels everywhere.
/// </summary>
internal sealed class FigureFont : IFontResolver
{
    internal const string Name = "Inter";

    private static readonly Lazy<bool> s_installed = new(() =>
    {
        Fonts.FontResolvers.Insert(0, new FigureFont());
        Fonts.Default = Fonts.Sans = Name;
        return true;
    });

    private static readonly Lazy<SKTypeface> s_regular = new(() => Load("Inter-Regular.otf"));
    private static readonly Lazy<SKTypeface> s_semiBold = new(() => Load("Inter-SemiBold.otf"));

    /// <summary>Makes Inter the font of every plot created afterwards. Calling it again changes nothing.</summary>
    internal static void Install() => _ = s_installed.Value;

    public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
        fontName != Name ? null : weight >= FontWeight.SemiBold ? s_semiBold.Value : s_regular.Value;

    public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) =>
        CreateTypeface(fontName, bold ? FontWeight.Bold : FontWeight.Normal, FontSlant.Upright, FontSpacing.Normal);

    private static SKTypeface Load(string file)
    {
        using Stream stream = typeof(FigureFont).Assembly.GetManifestResourceStream($"Priori.Reporting.Fonts.{file}")
            ?? throw new InvalidOperationException($"The font {file} is missing from the assembly.");
        using SKData data = SKData.Create(stream);
        return SKTypeface.FromData(data);
    }
}
