using System.Diagnostics;
using Priori.Runtime;

namespace Priori.Training;

/// <summary>Stops training when a metric has not improved for some epochs.</summary>
/// <param name="Metric">A logged or evaluated series.</param>
/// <param name="Patience">Epochs without improvement that are waited for; at least 1.</param>
/// <param name="Maximize">Whether larger is better.</param>
/// <param name="RestoreBest">Whether training ends with the weights of the best epoch.</param>
public sealed record EarlyStopping(string Metric, int Patience, bool Maximize = true, bool RestoreBest = true);

/// <summary>How far training is.</summary>
/// <param name="Epoch">Epochs done.</param>
/// <param name="Epochs">Epochs of the whole training.</param>
/// <param name="Step">Steps done.</param>
/// <param name="TotalSteps">Steps of the whole training.</param>
/// <param name="Elapsed">Time since the start of this process's part.</param>
/// <param name="Remaining">Estimated time left.</param>
public sealed record TrainingProgress(int Epoch, int Epochs, long Step, long TotalSteps, TimeSpan Elapsed, TimeSpan Remaining);

/// <summary>What an epoch ended with.</summary>
/// <param name="Epoch">The epoch, from 1.</param>
/// <param name="Step">Steps done.</param>
/// <param name="Values">Averages of logged scalars, and evaluated metrics.</param>
/// <param name="LearningRates">Learning rate of each optimizer's first group.</param>
/// <param name="Seconds">Training time so far, over all processes that took part.</param>
public sealed record EpochReport(int Epoch, long Step, IReadOnlyDictionary<string, double> Values, IReadOnlyDictionary<string, double> LearningRates, double Seconds);

/// <summary>The loop's settings.</summary>
public sealed record TrainerOptions
{
    /// <summary>Times over the data; default 1.</summary>
    public int Epochs { get; init; } = 1;

    /// <summary>Rows in a batch; default 128.</summary>
    public int BatchSize { get; init; } = 128;

    /// <summary>Seed of order, dropout and everything random; default 0.</summary>
    public int Seed { get; init; }

    /// <summary>Where training happens; default CPU. The learner's modules must be there.</summary>
    public Device Device { get; init; } = CPU;

    /// <summary>Whether an incomplete last batch is dropped. Otherwise it is used, and a last batch of a single row joins the one before (batch normalisation needs two).</summary>
    public bool DropLast { get; init; }

    /// <summary>Order of the rows; shuffled by default.</summary>
    public Sampler Sampler { get; init; } = new ShuffledSampler();

    /// <summary>Early stopping, if any.</summary>
    public EarlyStopping? EarlyStopping { get; init; }

    /// <summary>Where checkpoints are written and looked for; none when null.</summary>
    public string? CheckpointFolder { get; init; }

    /// <summary>Time between checkpoints; default 20 s. One is also written when training is cancelled.</summary>
    public TimeSpan CheckpointEvery { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>Told at most four times a second how far training is.</summary>
    public IProgress<TrainingProgress>? Progress { get; init; }

    /// <summary>Called after each epoch.</summary>
    public Action<EpochReport>? OnEpoch { get; init; }

    /// <summary>Called with warnings (a damaged checkpoint).</summary>
    public Action<string> Warn { get; init; } = _ => { };
}

/// <summary>What training left: a series an epoch for everything logged or evaluated.</summary>
/// <param name="Series">Values of each epoch by name.</param>
/// <param name="BestEpoch">Best epoch (from 1) of the early-stopping metric; the last epoch without early stopping.</param>
/// <param name="Steps">Steps done.</param>
/// <param name="Seconds">Training time.</param>
public sealed record TrainingHistory(IReadOnlyDictionary<string, double[]> Series, int BestEpoch, long Steps, double Seconds)
{
    /// <summary>The last value of a series.</summary>
    /// <param name="series">Its name.</param>
    public double Last(string series) => Series[series][^1];
}

/// <summary>
/// The training loop. Same seed, same machine: same numbers. The randomness of a step is a function of (seed, step) alone,
/// so a run that was killed continues from its newest checkpoint to the same weights, to the bit on CPU, as one that was not.
/// </summary>
/// <param name="options">The settings.</param>
public sealed class Trainer(TrainerOptions options)
{
    /// <summary>Trains, or continues from the newest checkpoint in the checkpoint folder.</summary>
    /// <param name="learner">What is trained.</param>
    /// <param name="data">The training rows.</param>
    /// <param name="evaluate">Called after each epoch (from 1); its metrics join the history. Runs without gradients.</param>
    /// <param name="cancellation">Stops after the step in progress; a checkpoint is written.</param>
    /// <exception cref="OperationCanceledException">Training was cancelled.</exception>
    /// <exception cref="NonFiniteLossException">A loss became NaN or infinite.</exception>
    /// <exception cref="BadInputException">The newest checkpoint is of another architecture.</exception>
    public TrainingHistory Fit(Learner learner, IBatchSource data, Func<int, IReadOnlyDictionary<string, double>>? evaluate = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(learner);
        ArgumentNullException.ThrowIfNull(data);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Epochs, 1, nameof(options.Epochs));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.BatchSize, 1, nameof(options.BatchSize));
        if (data.Count < 1) throw new ArgumentException("There is no training row.", nameof(data));
        using var averages = new EpochAverages();
        var state = new State(learner, data, averages, options);
        try
        {
            state.Resume();
            return state.Run(evaluate, cancellation);
        }
        catch (NonFiniteLossException e)
        {
            throw new NonFiniteLossException(e.Part, e.Step, e.Epoch, state.LastCheckpoint);
        }
        finally
        {
            state.Release();
        }
    }

    private sealed class State(Learner learner, IBatchSource data, EpochAverages averages, TrainerOptions options)
    {
        private static readonly TimeSpan s_progressEvery = TimeSpan.FromMilliseconds(250);
        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private readonly Dictionary<string, List<double>> _series = [];
        private readonly EarlyStopping? _stopping = options.EarlyStopping;
        private Dictionary<string, Tensor>? _best;
        private TimeSpan _nextProgress, _nextCheckpoint = options.CheckpointEvery;
        private double _secondsBefore, _bestValue = double.NaN;
        private int _epoch, _pass, _bestEpoch, _epochsWithoutGain;
        private long _batchIndex, _step, _firstStep;
        private bool _stopped;

        public string? LastCheckpoint { get; private set; }

        public void Resume()
        {
            if (options.CheckpointFolder is null || Checkpoint.Restore(options.CheckpointFolder, learner, options.Device, options.Warn) is not { } saved) return;
            (TrainingPosition position, _best) = saved;
            (_epoch, _pass, _batchIndex, _step, _firstStep) = (position.Epoch, position.Pass, position.BatchIndex, position.Step, position.Step);
            (_bestEpoch, _bestValue, _epochsWithoutGain, _stopped, _secondsBefore) = (position.BestEpoch, position.BestValue, position.EpochsWithoutGain, position.Stopped, position.Seconds);
            averages.Restore(position.Averages.ToDictionary(a => a.Key, a => (a.Value[0], (long)a.Value[1])));
            foreach ((string name, List<double> values) in position.Series) _series[name] = values;
        }

        public TrainingHistory Run(Func<int, IReadOnlyDictionary<string, double>>? evaluate, CancellationToken cancellation)
        {
            var step = new TrainingStep(learner, averages, options.Seed, options.Device);
            while (_epoch < options.Epochs && !_stopped)
            {
                learner.BeginEpoch(_epoch);
                for (; _pass < learner.PassesPerEpoch; _pass++, _batchIndex = 0)
                {
                    using var passScope = NewDisposeScope();
                    Tensor order = options.Sampler.Order(data.Count, options.Seed, _epoch, _pass);
                    long rows = order.shape[0], batches = Batches(rows);
                    if (batches == 0) throw new ArgumentException($"{rows} rows make no batch of {options.BatchSize} when the last incomplete batch is dropped.");
                    step.TotalSteps = options.Epochs * learner.PassesPerEpoch * batches;
                    for (; _batchIndex < batches; _batchIndex++)
                    {
                        if (cancellation.IsCancellationRequested)
                        {
                            Save();
                            throw new OperationCanceledException(cancellation);
                        }
                        using (NewDisposeScope())
                        {
                            Seeds.Set(Seeds.Derive(options.Seed, _step));
                            (step.Index, step.Epoch, step.Pass) = (_step, _epoch, _pass);
                            double epochs = _epoch + ((double)_batchIndex / batches + _pass) / learner.PassesPerEpoch;
                            foreach (Optimization optimization in learner.Optimizers.Values) optimization.SetRate(_step, step.TotalSteps, epochs);
                            long start = _batchIndex * options.BatchSize;
                            long end = _batchIndex == batches - 1 && !options.DropLast ? rows : start + options.BatchSize;
                            learner.Step(data.Get(order.slice(0, start, end, 1), options.Device), step);
                        }
                        _step++;
                        if (_clock.Elapsed >= _nextProgress) Report(step.TotalSteps);
                        if (_clock.Elapsed >= _nextCheckpoint && _batchIndex < batches - 1)
                        {
                            _batchIndex++;
                            Save();
                            _batchIndex--;
                        }
                    }
                }
                EndEpoch(evaluate);
                Report(step.TotalSteps);
            }
            if (_stopping is { RestoreBest: true } && _best is not null) Checkpoint.Copy(_best, learner, "The best epoch");
            return new TrainingHistory(_series.ToDictionary(s => s.Key, s => s.Value.ToArray()), _stopping is null ? _epoch : _bestEpoch, _step, _secondsBefore + _clock.Elapsed.TotalSeconds);
        }

        public void Release()
        {
            foreach (Tensor tensor in _best?.Values ?? Enumerable.Empty<Tensor>()) tensor.Dispose();
        }

        private long Batches(long rows)
        {
            long whole = rows / options.BatchSize, rest = rows % options.BatchSize;
            return options.DropLast || (rest == 1 && whole > 0) || rest == 0 ? whole : whole + 1;
        }

        private void EndEpoch(Func<int, IReadOnlyDictionary<string, double>>? evaluate)
        {
            if (averages.FirstNonFinite() is { } part) throw new NonFiniteLossException(part, _step - 1, _epoch, null);
            Dictionary<string, double> values = averages.Take();
            if (evaluate is not null)
            {
                using var scope = NewDisposeScope();
                using var gradientsOff = no_grad();
                Seeds.Set(Seeds.Derive(options.Seed, _step, -1));
                foreach ((string name, double value) in evaluate(_epoch + 1)) values[name] = value;
            }
            foreach ((string name, double value) in values)
            {
                if (!_series.TryGetValue(name, out List<double>? series)) _series[name] = series = [];
                series.Add(value);
            }
            _epoch++;
            (_pass, _batchIndex) = (0, 0);
            if (_stopping is not null) Judge(values);
            options.OnEpoch?.Invoke(new EpochReport(_epoch, _step, values, learner.Optimizers.ToDictionary(o => o.Key, o => o.Value.Optimizer.ParamGroups.First().LearningRate), _secondsBefore + _clock.Elapsed.TotalSeconds));
            if (_clock.Elapsed >= _nextCheckpoint) Save();
        }

        private void Judge(Dictionary<string, double> values)
        {
            if (!values.TryGetValue(_stopping!.Metric, out double value))
                throw new ArgumentException($"Early stopping watches '{_stopping.Metric}', but an epoch gave only: {string.Join(", ", values.Keys)}.");
            bool better = _bestEpoch == 0 || (_stopping.Maximize ? value > _bestValue : value < _bestValue);
            if (better)
            {
                (_bestEpoch, _bestValue, _epochsWithoutGain) = (_epoch, value, 0);
                if (_stopping.RestoreBest)
                {
                    using var scope = NewDisposeScope();
                    using var gradientsOff = no_grad();
                    Release();
                    _best = Checkpoint.State(learner).ToDictionary(t => t.Key, t => t.Value.clone().DetachFromDisposeScope());
                }
            }
            else if (++_epochsWithoutGain >= _stopping.Patience)
            {
                _stopped = true;
            }
        }

        private void Save()
        {
            if (options.CheckpointFolder is null) return;
            if (averages.FirstNonFinite() is { } part) throw new NonFiniteLossException(part, _step - 1, _epoch, null);
            LastCheckpoint = Checkpoint.Save(options.CheckpointFolder, learner, new TrainingPosition
            {
                Epoch = _epoch,
                Pass = _pass,
                BatchIndex = _batchIndex,
                Step = _step,
                Seconds = _secondsBefore + _clock.Elapsed.TotalSeconds,
                Averages = averages.Save().ToDictionary(a => a.Key, a => new[] { a.Value.Sum, a.Value.Count }),
                Series = _series,
                BestEpoch = _bestEpoch,
                BestValue = _bestValue,
                EpochsWithoutGain = _epochsWithoutGain,
                Stopped = _stopped,
            }, _best);
            _nextCheckpoint = _clock.Elapsed + options.CheckpointEvery;
        }

        private void Report(long totalSteps)
        {
            if (options.Progress is null) return;
            double perStep = _clock.Elapsed.TotalSeconds / Math.Max(1, _step - _firstStep);
            options.Progress.Report(new TrainingProgress(_epoch, options.Epochs, _step, totalSteps, _clock.Elapsed, TimeSpan.FromSeconds(perStep * Math.Max(0, totalSteps - _step))));
            _nextProgress = _clock.Elapsed + s_progressEvery;
        }
    }
}
