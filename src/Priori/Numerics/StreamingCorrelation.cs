namespace Priori.Numerics;

/// <summary>First and second moments of two tables over the same rows, in double precision on the CPU or the tables' device.</summary>
/// <param name="Count">Number of rows N.</param>
/// <param name="MeanX">Mean of each column of X [p].</param>
/// <param name="MeanY">Mean of each column of Y [q].</param>
/// <param name="VarianceX">Variance of each column of X [p], with divisor N.</param>
/// <param name="VarianceY">Variance of each column of Y [q], with divisor N.</param>
/// <param name="XX">Covariance within X [p, p], with divisor N; null when only the cross products were asked for.</param>
/// <param name="YY">Covariance within Y [q, q]; null when only the cross products were asked for.</param>
/// <param name="XY">Covariance between X and Y [p, q], with divisor N.</param>
public sealed record CrossMoments(long Count, Tensor MeanX, Tensor MeanY, Tensor VarianceX, Tensor VarianceY, Tensor? XX, Tensor? YY, Tensor XY)
{
    /// <summary>Pearson correlation: covariance / (sigma_i sigma_j), limited to -1..1; 0 where a variable is left out.</summary>
    /// <param name="covariance">Covariance [p, q].</param>
    /// <param name="deviationRows">sigma of the rows' variables [p]; 0 leaves one out.</param>
    /// <param name="deviationColumns">sigma of the columns' variables [q]; 0 leaves one out.</param>
    public static Tensor Correlation(Tensor covariance, Tensor deviationRows, Tensor deviationColumns)
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor Inverse(Tensor deviation) => where(deviation > 0, deviation.reciprocal(), zeros_like(deviation));
        return (covariance * Inverse(deviationRows).unsqueeze(1)).mul_(Inverse(deviationColumns)).clamp_(-1, 1).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Means, variances, and covariances of two tables of one-to-one rows, which come in batches, in one pass. Sums are kept in float64 of values that are shifted by the first row
/// (Chan, Golub, LeVeque, The American Statistician 1983), so neither the number of rows nor a large mean costs digits, and a constant column has variance 0 exactly.
/// A batch costs one matrix product for each of XX, YY and XY.
/// </summary>
public sealed class StreamingCorrelation : IDisposable
{
    private readonly bool _within;
    private readonly ScalarType _products;
    private Side? _x, _y;
    private Tensor? _cross;

    /// <summary>Starts with no rows. The sums live on the device of the first batch.</summary>
    /// <param name="within">Whether the covariances within X and within Y are kept too. Default true.</param>
    /// <param name="products">Type in which a batch's products are computed; sums over batches are float64 always. Float32 is faster and keeps about six digits. Default float64.</param>
    /// <exception cref="ArgumentException">The type is neither float64 nor float32.</exception>
    public StreamingCorrelation(bool within = true, ScalarType products = ScalarType.Float64)
    {
        if (products is not (ScalarType.Float64 or ScalarType.Float32)) throw new ArgumentException($"Products are computed in Float64 or Float32, not {products}.", nameof(products));
        (_within, _products) = (within, products);
    }

    /// <summary>Number of rows so far.</summary>
    public long Count { get; private set; }

    /// <summary>Adds a batch of rows.</summary>
    /// <param name="x">Rows of X [b, p], any floating type, b at least 1.</param>
    /// <param name="y">The same rows of Y [b, q].</param>
    /// <exception cref="ArgumentException">Rows or widths do not fit, or a value is NaN or infinite; nothing was added then.</exception>
    public void Add(Tensor x, Tensor y)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(y);
        if (x.dim() != 2 || y.dim() != 2 || x.numel() == 0 || y.numel() == 0) throw new ArgumentException($"Batches must be [rows, columns] and not empty, not [{string.Join(", ", x.shape)}] and [{string.Join(", ", y.shape)}].", nameof(x));
        if (x.shape[0] != y.shape[0]) throw new ArgumentException($"X has {x.shape[0]} rows and Y has {y.shape[0]}; they must be the same rows.", nameof(y));
        if (_x is not null && (x.shape[1] != _x.Width || y.shape[1] != _y!.Width))
            throw new ArgumentException($"The batch has {x.shape[1]} and {y.shape[1]} columns; those before had {_x.Width} and {_y!.Width}.", nameof(x));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        Side left = _x ?? new Side(x, _within), right = _y ?? new Side(y, _within);
        (Tensor Values, Tensor Sum, Tensor Squares) a = left.Shifted(x, "X", _products), b = right.Shifted(y, "Y", _products);
        if (_x is null)
        {
            (_x, _y) = (left.Keep(), right.Keep());
            _cross = zeros([left.Width, right.Width], float64, device: x.device).DetachFromDisposeScope();
        }
        left.Add(a.Values, a.Sum, a.Squares);
        right.Add(b.Values, b.Sum, b.Squares);
        AddProduct(_cross!, a.Values, b.Values);
        Count += x.shape[0];
    }

    /// <summary>The moments of all rows so far; more can be added afterwards.</summary>
    /// <exception cref="InvalidOperationException">There are fewer than 2 rows.</exception>
    public CrossMoments Moments()
    {
        if (Count < 2) throw new InvalidOperationException($"Correlations need at least 2 rows; there are {Count}.");
        using DisposeScope scope = NewDisposeScope();
        Tensor Keep(Tensor t) => t.MoveToOuterDisposeScope();
        Tensor x = _x!.Sum / Count, y = _y!.Sum / Count;
        Tensor Covariance(Tensor products, Tensor a, Tensor b) => Keep((products / Count).sub_(a.outer(b)));
        return new CrossMoments(Count, Keep(x + _x.Shift), Keep(y + _y.Shift), Keep((_x.Squares / Count - x.square()).clamp_min_(0)), Keep((_y.Squares / Count - y.square()).clamp_min_(0)),
            _x.Products is null ? null : Covariance(_x.Products, x, x), _y.Products is null ? null : Covariance(_y.Products, y, y), Covariance(_cross!, x, y));
    }

    /// <summary>Frees the sums.</summary>
    public void Dispose()
    {
        _x?.Dispose();
        _y?.Dispose();
        _cross?.Dispose();
    }

    private static void AddProduct(Tensor sum, Tensor a, Tensor b)
    {
        if (a.dtype == float64) sum.addmm_(a.t(), b, 1, 1);
        else sum.add_(a.t().matmul(b));
    }

    private sealed class Side : IDisposable
    {
        public Side(Tensor first, bool within)
        {
            Shift = first[0].detach().to(float64).clone();
            Sum = zeros_like(Shift);
            Squares = zeros_like(Shift);
            if (within) Products = zeros([Width, Width], float64, device: first.device);
        }

        public long Width => Shift.shape[0];
        public Tensor Shift { get; }
        public Tensor Sum { get; }
        public Tensor Squares { get; }
        public Tensor? Products { get; }

        public (Tensor Values, Tensor Sum, Tensor Squares) Shifted(Tensor batch, string name, ScalarType products)
        {
            Tensor values = batch.dtype == float64 ? batch.detach() - Shift : batch.detach().to(float64).sub_(Shift), sum = values.sum(dim: 0);
            Tensor squares = linalg.vector_norm(values, 2, [0L]).square(); // in one pass and without a copy
            if (!squares.isfinite().all().item<bool>()) throw new ArgumentException($"Column {squares.isfinite().logical_not().to(int64).argmax().item<long>()} of {name} holds NaN or infinity.");
            return (values.to(products), sum, squares);
        }

        public void Add(Tensor values, Tensor sum, Tensor squares)
        {
            Sum.add_(sum);
            Squares.add_(squares);
            if (Products is not null) AddProduct(Products, values, values);
        }

        public Side Keep()
        {
            foreach (Tensor? tensor in new[] { Shift, Sum, Squares, Products }) tensor?.DetachFromDisposeScope();
            return this;
        }

        public void Dispose()
        {
            foreach (Tensor? tensor in new[] { Shift, Sum, Squares, Products }) tensor?.Dispose();
        }
    }
}
