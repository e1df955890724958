using System.IO.Compression;
using System.Security.Cryptography;
using Priori.Runtime;

namespace Priori.Data;

/// <summary>A file of a dataset.</summary>
/// <param name="Path">Its name within the dataset's folder.</param>
public sealed record DatasetFile(string Path)
{
    /// <summary>Addresses of the file itself, tried in order; empty when it comes in the dataset's archive or has no public address.</summary>
    public IReadOnlyList<string> Urls { get; init; } = [];

    /// <summary>SHA-256 (lower-case hex) of the official content; null when it is not known, and the file then stays unverified.</summary>
    public string? Sha256 { get; init; }

    /// <summary>SHA-256 of a copy that results were measured on, where that is not known to be the official content; a different content is accepted as unverified.</summary>
    public string? KnownSha256 { get; init; }

    /// <summary>Whether the checksums are of the content inside the gzip file, which stays the same when the file is compressed anew.</summary>
    public bool ChecksumOfContent { get; init; }

    /// <summary>Whether the dataset is usable without the file.</summary>
    public bool Optional { get; init; }

    /// <summary>Brings official content into the form on disk, before the checksum is taken; null where they are the same.</summary>
    internal Func<byte[], byte[]>? Prepare { get; init; }

    /// <summary>The file in a folder, compressed or, for a name that ends in .gz, not; null when it is not there.</summary>
    internal string? Resolve(string folder)
    {
        string path = System.IO.Path.Combine(folder, Path);
        if (File.Exists(path)) return path;
        return Path.EndsWith(".gz", StringComparison.Ordinal) && File.Exists(path[..^3]) ? path[..^3] : null;
    }

    /// <summary>Compares the checksum of a file on disk.</summary>
    /// <exception cref="InvalidDataException">The content is not the official one.</exception>
    internal DatasetFileStatus Verify(string path)
    {
        string actual;
        using (FileStream file = File.OpenRead(path))
        {
            try
            {
                using Stream content = ChecksumOfContent && path.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file;
                actual = Convert.ToHexStringLower(SHA256.HashData(content));
            }
            catch (InvalidDataException exception)
            {
                throw new InvalidDataException($"{path}: not a sound gzip file; remove it and get it again.", exception);
            }
        }
        // A gzip checksum says nothing about a file that is not compressed.
        bool comparable = ChecksumOfContent || path.EndsWith(Path, StringComparison.Ordinal);
        if (Sha256 is not null && comparable && actual != Sha256)
            throw new InvalidDataException($"{path}: SHA-256 is {actual}, but that of the official file is {Sha256}; the file is damaged or another version.");
        FileVerification verification = Sha256 is not null && comparable ? FileVerification.Verified : actual == KnownSha256 ? FileVerification.KnownCopy : FileVerification.Unverified;
        return new DatasetFileStatus(Path, verification, new FileInfo(path).Length);
    }
}

/// <summary>An archive (.zip, .tar.gz, .tgz or .tar) that holds files of a dataset.</summary>
/// <param name="FileName">Its file name.</param>
/// <param name="Urls">Its addresses, tried in order.</param>
/// <param name="Root">The folder inside the archive that becomes the dataset's folder; empty for the top.</param>
public sealed record DatasetArchive(string FileName, IReadOnlyList<string> Urls, string Root = "");

/// <summary>How far the content of a file is known to be right.</summary>
public enum FileVerification
{
    /// <summary>The official checksum matches.</summary>
    Verified,

    /// <summary>No official checksum is known, but the file equals the copy that results were measured on.</summary>
    KnownCopy,

    /// <summary>No checksum is known for this content.</summary>
    Unverified,
}

/// <summary>What was found out about a file of a dataset.</summary>
/// <param name="Path">Its name within the dataset's folder.</param>
/// <param name="Verification">How far its content is known to be right.</param>
/// <param name="Bytes">Its size on disk.</param>
public sealed record DatasetFileStatus(string Path, FileVerification Verification, long Bytes);

/// <summary>A dataset that was put into the data folder.</summary>
/// <param name="Folder">Its folder.</param>
/// <param name="Files">Its files.</param>
public sealed record DatasetReport(string Folder, IReadOnlyList<DatasetFileStatus> Files);

/// <summary>A public dataset that the recipes know.</summary>
/// <param name="Name">Its name, and that of its folder.</param>
/// <param name="Title">What it is.</param>
/// <param name="Licence">Terms of use, in short; the source's own terms hold.</param>
/// <param name="Home">Address of its home page.</param>
/// <param name="Files">Its files.</param>
public sealed record Dataset(string Name, string Title, string Licence, string Home, IReadOnlyList<DatasetFile> Files)
{
    /// <summary>The archive that the files come in; null when each has its own address.</summary>
    public DatasetArchive? Archive { get; init; }

    /// <summary>What a user should know; null for nothing.</summary>
    public string? Note { get; init; }

    /// <summary>Whether it can be downloaded without a mirror.</summary>
    public bool HasAddress => Archive is { Urls.Count: > 0 } || Files.Any(f => f.Urls.Count > 0);

    /// <summary>Whether all files that it cannot do without are in the folder.</summary>
    /// <param name="folder">The folder of the dataset.</param>
    public bool IsPresent(string folder) => Files.All(f => f.Optional || f.Resolve(folder) is not null);

    /// <summary>Compares the checksums of the files in a folder.</summary>
    /// <param name="folder">The folder of the dataset.</param>
    /// <exception cref="FileNotFoundException">A file is missing.</exception>
    /// <exception cref="InvalidDataException">A file's content is not the official one.</exception>
    public DatasetReport Verify(string folder)
    {
        List<DatasetFileStatus> found = [];
        foreach (DatasetFile file in Files)
        {
            if (file.Resolve(folder) is { } path) found.Add(file.Verify(path));
            else if (!file.Optional) throw new FileNotFoundException($"{Name}: {Path.Combine(folder, file.Path)} is missing.");
        }
        return new DatasetReport(folder, found);
    }
}

/// <summary>The public datasets that the recipes know, with addresses, checksums and terms. Priori ships none of them.</summary>
public static class DatasetRegistry
{
    private const string AdultHeader = "age, workclass, fnlwgt, education, education-num, marital-status, occupation, relationship, race, sex, capital-gain, capital-loss, hours-per-week, native-country, Salary\n";

    /// <summary>All datasets, by name.</summary>
    public static IReadOnlyList<Dataset> All { get; } =
    [
        new("adult", "UCI Adult census income: 32,561 rows, 14 features, binary target", "CC BY 4.0 (UCI Machine Learning Repository)", "https://archive.ics.uci.edu/dataset/2/adult",
        [
            // The official file has no header; ours is the official content (SHA-256 5b002646...) below one.
            new("adult.data") { Urls = ["https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data"], Sha256 = "7974b56173c9e296a971a3881558f1cf56f19bd7faa18d226136f319339efcaa", Prepare = AddAdultHeader },
        ]),
        new("california-housing", "California housing: 20,640 blocks of the 1990 census, 9 features, median house value", "Public census data; distributed with Hands-On Machine Learning (Apache 2.0)", "https://github.com/ageron/handson-ml2",
        [
            new("housing.csv") { Urls = ["https://raw.githubusercontent.com/ageron/handson-ml2/master/datasets/housing/housing.csv"], Sha256 = "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e", Prepare = StripBytesLiteral },
        ]),
        new("cifar10-jpeg", "CIFAR-10 as JPEG files by class, 50,000 + 10,000 images of 32x32", "Research use; cite Krizhevsky (2009)", "https://www.cs.toronto.edu/~kriz/cifar.html",
        [
            new("cifar10-jpeg.zip") { KnownSha256 = "ead45e06542622104d3e17a0e554f18656c4cf310408a9ee502d835a28cf897d" },
        ]) { Note = "No official address: make the zip (train/<class>/NNNN.jpg, test/<class>/NNNN.jpg) and import it. JPEG is lossy: figures differ a little from those on the original CIFAR-10." },
        new("covid19-jhu", "JHU COVID-19 cumulative confirmed, deaths and recovered by country and day", "CC BY 4.0 (Johns Hopkins University)", "https://github.com/CSSEGISandData/COVID-19",
        [
            Jhu("confirmed", "2ba645bda7869d6b442da2960c607365ebf325949c20c331a23bf27b056dc2b0"),
            Jhu("deaths", "54c32e239280cacc47d0890aa316d2cff4d9669ce4be8d6bf6948d4f3f18914f"),
            Jhu("recovered", "c1fcddb84ab5caa701802060502212ee85c5e5a117d7523e4fc7677de28be7af"),
        ]) { Note = "The series grew until March 2023; the copy that results were measured on ends on 4 August 2022." },
        new("cranfield", "Cranfield 1400: abstracts, 225 queries and relevance judgments", "Distributed for research by the University of Glasgow", "http://ir.dcs.gla.ac.uk/resources/test_collections/cran/",
        [
            new("cran.all.1400") { KnownSha256 = "fbb8935a93263ab6c9fadefb507fd7cd5e101e7fbeb31c12e6bff6dd501315e8" },
            new("cran.qry") { KnownSha256 = "99578ceb88941ef89c14faf7c63c23776a376d8fba319b990f01d0c601d8b03f" },
            new("cranqrel") { KnownSha256 = "a90f56082cd44db70bf2c21ebca39a1a34e37c82ccb5ddf1bcc64f18795234c7" },
            new("cranqrel.readme") { KnownSha256 = "5d5b5e72a4799df3e4ea98476ed803b2caac01d90c859a91771ac794971a1ad3", Optional = true },
        ]) { Archive = new DatasetArchive("cran.tar.gz", ["http://ir.dcs.gla.ac.uk/resources/test_collections/cran/cran.tar.gz"]) },
        new("criteo-sample", "200 rows of the Criteo display-advertising log: a format sample, too small to learn from", "Criteo's terms; sample distributed with DeepCTR", "https://github.com/shenweichen/DeepCTR",
        [
            new("criteo_sample.txt") { Urls = ["https://raw.githubusercontent.com/shenweichen/DeepCTR/master/examples/criteo_sample.txt"], KnownSha256 = "08b84f12a22438fb534e989a5e4fa245726b2bda001983556bc2aea2f094f724" },
        ]),
        new("ett", "ETTh1: hourly electricity transformer temperature, 17,420 x 7", "CC BY-ND 4.0", "https://github.com/zhouhaoyi/ETDataset",
        [
            new("ETTh1.csv") { Urls = ["https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"], Sha256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066" },
        ]),
        new("fashion-mnist", "Fashion-MNIST: 60,000 + 10,000 images of 28x28, ten kinds of clothing", "MIT (Zalando SE)", "https://github.com/zalandoresearch/fashion-mnist",
        [
            Fashion("train-images-idx3-ubyte.gz", "08dc20ab1689590a0bcd66e874647b6ee8464e2d501b5a3f1f78831db19a3fdc"),
            Fashion("train-labels-idx1-ubyte.gz", "b0197879cbda89f3dc7b894f9fd52b858e68ea4182b6947c9d8c2b67e5f18dcc"),
            Fashion("t10k-images-idx3-ubyte.gz", "78dcbbfb5a27efaf1b6c1d616caca68560be8766c5bffcb2791df9273a534229"),
            Fashion("t10k-labels-idx1-ubyte.gz", "42bd18137a62d5998cdeae52bf3a0676ac6b706f5cf8439b47bb5b151ae3dccf"),
        ]),
        new("feynman", "100 equations of the Feynman lectures with variable ranges", "Cite Udrescu and Tegmark (2020)", "https://space.mit.edu/home/tegmark/aifeynman.html",
        [
            new("FeynmanEquations.csv") { Urls = ["https://space.mit.edu/home/tegmark/aifeynman/FeynmanEquations.csv"], KnownSha256 = "6abfeccce0cd2747986eeff4439bec0c1b208ee9fc5feb7b546dfb2720535b49" },
        ]),
        new("frappe", "Frappe app-usage log: 10 categorical fields, libFM files", "Research use; cite Baltrunas et al. (2015)", "https://github.com/hexiangnan/neural_factorization_machine",
        [
            Frappe("validation", "fdf4be563a7dd9b15f7a6e8b32671e90e6e7a2a2bd3af4e10bf13c5ad7e76e9e"),
            Frappe("test", "a2ebaef3a9af8e55f8bb0d08bc4923965e42e43760ebd7635ac2f8c5db99e097"),
            Frappe("train", null),
        ]),
        new("ml-100k", "MovieLens 100K: 100,000 ratings with time stamps, users, items, genres", "GroupLens terms: no commercial use without permission, no redistribution; cite Harper and Konstan (2015)", "https://grouplens.org/datasets/movielens/100k/",
        [
            new("u.data") { KnownSha256 = "f4555b8e3a89b4068229ae5c8ca7eaa12c27fd3b0a38a2fbc0b58789d228438e" },
            new("u.item") { KnownSha256 = "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701" },
            new("u.user") { KnownSha256 = "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c" },
            new("u.genre") { KnownSha256 = "9757e0d3e6b298159a80dd48eaf938114690e911e39af97a76949ef1663610bb", Optional = true },
            new("u.occupation") { KnownSha256 = "cd5fbec9afe345d993a62fc7817df1a4a9079c4feb267b3118763b8fd942137d", Optional = true },
            new("ua.base") { KnownSha256 = "67b5bcdb380c29f85d56a012ecd88612ae020f30a6730d117a334ee8203b91f2" },
            new("ua.test") { KnownSha256 = "d0497e202417720f57a184ec8c66be2d1afa4ff41bb53787c57b28d6bf79bc42" },
            new("README") { KnownSha256 = "a68c4a0fd84c1ae002d5eaa9eceb9814223bdf5147f84efa46dfd1edc86ea25c", Optional = true },
        ]) { Archive = new DatasetArchive("ml-100k.zip", ["https://files.grouplens.org/datasets/movielens/ml-100k.zip"], "ml-100k") },
        new("ml-1m", "MovieLens 1M: 1,000,209 ratings with time stamps, users, movies", "GroupLens terms: no commercial use without permission, no redistribution; cite Harper and Konstan (2015)", "https://grouplens.org/datasets/movielens/1m/",
            [new("ratings.dat"), new("users.dat"), new("movies.dat")])
        { Archive = new DatasetArchive("ml-1m.zip", ["https://files.grouplens.org/datasets/movielens/ml-1m.zip"], "ml-1m") },
        new("mnist", "MNIST: 60,000 + 10,000 handwritten digits of 28x28", "CC BY-SA 3.0 (LeCun, Cortes, Burges)", "http://yann.lecun.com/exdb/mnist/",
        [
            Mnist("train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            Mnist("train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            Mnist("t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            Mnist("t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ]),
    ];

    /// <summary>The dataset of a name.</summary>
    /// <param name="name">Its name; case does not matter.</param>
    /// <exception cref="BadInputException">No dataset has this name.</exception>
    public static Dataset Get(string name) =>
        All.FirstOrDefault(d => string.Equals(d.Name, name, StringComparison.OrdinalIgnoreCase))
        ?? throw new BadInputException($"There is no dataset '{name}'; the datasets are {string.Join(", ", All.Select(d => d.Name))}.");

    private static DatasetFile Mnist(string name, string sha256) => new(name)
    {
        Urls = [$"https://ossci-datasets.s3.amazonaws.com/mnist/{name}", $"https://storage.googleapis.com/cvdf-datasets/mnist/{name}", $"http://yann.lecun.com/exdb/mnist/{name}"],
        Sha256 = sha256,
        ChecksumOfContent = true,
    };

    private static DatasetFile Fashion(string name, string sha256) => new(name)
    {
        Urls = [$"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}", $"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{name}"],
        Sha256 = sha256,
    };

    private static DatasetFile Frappe(string part, string? sha256) => new($"frappe.{part}.libfm")
    {
        Urls = [$"https://raw.githubusercontent.com/hexiangnan/neural_factorization_machine/master/data/frappe/frappe.{part}.libfm"],
        Sha256 = sha256,
        Optional = part == "train",
    };

    private static DatasetFile Jhu(string what, string known) => new($"time_series_covid19_{what}_global.csv")
    {
        Urls = [$"https://raw.githubusercontent.com/CSSEGISandData/COVID-19/master/csse_covid_19_data/csse_covid_19_time_series/time_series_covid19_{what}_global.csv"],
        KnownSha256 = known,
    };

    private static byte[] AddAdultHeader(byte[] content) =>
        content.AsSpan().StartsWith("age,"u8) ? content : [.. System.Text.Encoding.ASCII.GetBytes(AdultHeader), .. content];

    /// <summary>Copies of the file are about that were saved as a Python bytes literal, b'...': takes the quotes off.</summary>
    private static byte[] StripBytesLiteral(byte[] content)
    {
        ReadOnlySpan<byte> text = content;
        return text.StartsWith("b'"u8) && text.TrimEnd("\r\n"u8).EndsWith("'"u8) ? text[2..(text.TrimEnd("\r\n"u8).Length - 1)].ToArray() : content;
    }
}
