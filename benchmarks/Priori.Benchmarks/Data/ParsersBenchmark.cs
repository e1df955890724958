using System.Globalization;
using BenchmarkDotNet.Attributes;
using Priori.Data;
using Sylvan.Data.Csv;

namespace Priori.Benchmarks.Data;

/// <summary>
/// Reading text at the speed of one core: a CSV click log of 40 columns (14 numbers, 26 of 20,000 categories) and a libFM file of 10 fields, 16 MB each (so 80 ms are 200 MB/s).
/// The floor of CSV is Sylvan alone, which only finds the fields; the peer of libFM is the obvious reader, ReadLines and Split.
/// </summary>
public class ParsersBenchmark
{
    private const long FileBytes = 16_000_000;
    private const int RowsPerBlock = 1 << 14;

    private readonly string _folder = Directory.CreateTempSubdirectory("priori-").FullName;

    private Table _table = null!;
    private ColumnSchema _schema = null!;

    private string Csv => Path.Combine(_folder, "clicks.csv");

    private string Fm => Path.Combine(_folder, "clicks.libfm");

    [GlobalSetup]
    public void Setup()
    {
        var random = new Random(0);
        using (var csv = new StreamWriter(Csv))
        {
            csv.WriteLine(string.Join(',', Enumerable.Range(0, 40).Select(column => $"c{column}")));
            while (csv.BaseStream.Position < FileBytes)
                csv.WriteLine(string.Join(',', Enumerable.Range(0, 40).Select(column => column < 14 ? (random.Next(5) == 0 ? "" : random.Next(1000).ToString(CultureInfo.InvariantCulture)) : random.Next(20_000).ToString("x8", CultureInfo.InvariantCulture))));
        }
        _table = Table.Read(Csv);
        _schema = ColumnSchema.Learn(_table);
        using var fm = new StreamWriter(Fm);
        while (fm.BaseStream.Position < FileBytes)
            fm.WriteLine($"{random.Next(2)} {string.Join(' ', Enumerable.Range(0, 10).Select(_ => $"{random.Next(5382)}:1"))}");
    }

    [GlobalCleanup]
    public void Cleanup() => Directory.Delete(_folder, recursive: true);

    [Benchmark]
    public long CsvSylvanAlone()
    {
        using CsvDataReader csv = CsvDataReader.Create(Csv, new CsvDataReaderOptions { BufferSize = 1 << 16 });
        long characters = 0;
        while (csv.Read())
            for (int column = 0; column < csv.FieldCount; column++) characters += csv.GetFieldSpan(column).Length;
        return characters;
    }

    [Benchmark]
    public long CsvBlocks() => TableReader.Blocks(Csv, RowsPerBlock).Sum(block => (long)block.RowCount);

    [Benchmark]
    public long CsvWhole() => Table.Read(Csv).RowCount;

    [Benchmark]
    public long CsvBlocksEncoded()
    {
        long rows = 0;
        foreach (Table block in TableReader.Blocks(Csv, RowsPerBlock))
        {
            using var scope = NewDisposeScope();
            rows += _schema.Encode(block).Ids.shape[0];
        }
        return rows;
    }

    [Benchmark]
    public long EncodeAlone()
    {
        using var scope = NewDisposeScope();
        return _schema.Encode(_table).Ids.shape[0];
    }

    [Benchmark]
    public long LibFmSplit()
    {
        List<float> labels = [], values = [];
        List<long> ids = [];
        foreach (string line in File.ReadLines(Fm))
        {
            string[] parts = line.Split(' ');
            labels.Add(float.Parse(parts[0], CultureInfo.InvariantCulture));
            foreach (string pair in parts.AsSpan(1))
            {
                string[] sides = pair.Split(':');
                ids.Add(long.Parse(sides[0], CultureInfo.InvariantCulture));
                values.Add(float.Parse(sides[1], CultureInfo.InvariantCulture));
            }
        }
        return labels.Count + ids.Count + values.Count;
    }

    [Benchmark]
    public long LibFmBlocks()
    {
        long rows = 0;
        foreach (LibFmData block in LibFm.Blocks(Fm, RowsPerBlock))
        {
            rows += block.Labels.shape[0];
            block.Labels.Dispose();
            block.Ids.Dispose();
            block.Values.Dispose();
        }
        return rows;
    }

    [Benchmark]
    public long LibFmWhole()
    {
        using var scope = NewDisposeScope();
        return LibFm.Read(Fm).Labels.shape[0];
    }
}
