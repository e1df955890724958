namespace Priori.Data;

/// <summary>The folder of real datasets, one folder each by the dataset's name.</summary>
/// <param name="root">The folder.</param>
public sealed class DataFolder(string root)
{
    /// <summary><c>PRIORI_DATA</c>, or the user's own data folder.</summary>
    public static DataFolder Default => new(Environment.GetEnvironmentVariable("PRIORI_DATA") is { Length: > 0 } set
        ? set
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData), "priori", "data"));

    /// <summary>The folder.</summary>
    public string Root { get; } = root;

    /// <summary>The folder of a dataset, or null when it is not there.</summary>
    /// <param name="name">The dataset's name.</param>
    public string? Find(string name) => Path.Combine(Root, name) is var folder && Directory.Exists(folder) ? folder : null;
}
