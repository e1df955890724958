namespace Priori.Data;

/// <summary>The folder of real datasets: one folder each, by the dataset's name.</summary>
/// <param name="root">The folder; null for the environment variable <c>PRIORI_DATA</c> or, when that is not set, the user's own data folder.</param>
public sealed class DataFolder(string? root = null)
{
    /// <summary><c>PRIORI_DATA</c>, or the user's own data folder.</summary>
    public static DataFolder Default => new();

    /// <summary>The folder, as a full path. It need not exist.</summary>
    public string Root { get; } = Path.GetFullPath(
        root is { Length: > 0 } ? root
        : Environment.GetEnvironmentVariable("PRIORI_DATA") is { Length: > 0 } set ? set
        : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData), "priori", "data"));

    /// <summary>Where a dataset belongs, whether it is there or not.</summary>
    /// <param name="name">Name of a registered dataset.</param>
    /// <exception cref="Runtime.BadInputException">No dataset has this name.</exception>
    public string PathOf(string name) => Path.Combine(Root, DatasetRegistry.Get(name).Name);

    /// <summary>The folder of a dataset, or null when one of its files is not there.</summary>
    /// <param name="name">Name of a registered dataset.</param>
    /// <exception cref="Runtime.BadInputException">No dataset has this name.</exception>
    public string? Find(string name) => PathOf(name) is var folder && DatasetRegistry.Get(name).IsPresent(folder) ? folder : null;
}
