namespace Priori.Training;

/// <summary>Averages of logged scalars over one epoch. On the CPU a value is read at once; on other devices sums stay there until they are asked for.</summary>
internal sealed class EpochAverages : IDisposable
{
    private readonly Dictionary<string, Entry> _entries = [];

    public void Add(string name, double value)
    {
        Entry entry = Get(name);
        entry.Sum += value;
        entry.Count++;
    }

    public void Add(string name, Tensor scalar, TrainingStep step)
    {
        if (scalar.device_type == DeviceType.CPU)
        {
            double value = scalar.ToDouble();
            if (!double.IsFinite(value)) throw new NonFiniteLossException(name, step.Index, step.Epoch, null);
            Add(name, value);
            return;
        }
        Entry entry = Get(name);
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        entry.DeviceSum ??= zeros([], ScalarType.Float64, scalar.device).DetachFromDisposeScope();
        entry.DeviceSum.add_(scalar.detach().to(ScalarType.Float64).reshape([]));
        entry.Count++;
    }

    /// <summary>Sums and counts so far, exact, for checkpoints.</summary>
    public Dictionary<string, (double Sum, long Count)> Save() => _entries.ToDictionary(e => e.Key, e => (e.Value.Total(), e.Value.Count));

    public void Restore(IReadOnlyDictionary<string, (double Sum, long Count)> saved)
    {
        foreach ((string name, (double sum, long count)) in saved)
        {
            Entry entry = Get(name);
            entry.Sum = sum;
            entry.Count = count;
        }
    }

    /// <summary>The first series whose sum is not finite, if any.</summary>
    public string? FirstNonFinite() => _entries.FirstOrDefault(e => !double.IsFinite(e.Value.Total())).Key;

    public Dictionary<string, double> Take()
    {
        var averages = _entries.Where(e => e.Value.Count > 0).ToDictionary(e => e.Key, e => e.Value.Total() / e.Value.Count);
        foreach (Entry entry in _entries.Values)
        {
            entry.Sum = 0;
            entry.Count = 0;
            entry.DeviceSum?.zero_();
        }
        return averages;
    }

    public void Dispose()
    {
        foreach (Entry entry in _entries.Values) entry.DeviceSum?.Dispose();
    }

    private Entry Get(string name)
    {
        if (!_entries.TryGetValue(name, out Entry? entry)) _entries[name] = entry = new Entry();
        return entry;
    }

    private sealed class Entry
    {
        public double Sum { get; set; }
        public long Count { get; set; }
        public Tensor? DeviceSum { get; set; }
        public double Total() => Sum + (DeviceSum?.ToDouble() ?? 0);
    }
}
