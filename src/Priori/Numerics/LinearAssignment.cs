using System.Runtime.Intrinsics;

namespace Priori.Numerics;

/// <summary>
/// The linear assignment problem on real costs, exact on doubles: costs are never scaled to integers. The steps of Jonker and Volgenant (Computing 1987): column reduction (of square matrices) and augmenting
/// row reduction assign most rows, shortest augmenting paths with dual potentials the others, O(rows * rows * columns) at worst. Rectangular matrices are solved as they are.
/// </summary>
public static unsafe class LinearAssignment
{
    private const int Reductions = 2; // passes of augmenting row reduction over the free rows, as Jonker and Volgenant

    /// <summary>Assigns rows to different columns so that the sum of the chosen costs is least.</summary>
    /// <param name="costs">Finite costs [rows, columns].</param>
    /// <returns>The column of each row; -1 for rows that stay without one when there are more rows than columns.</returns>
    /// <exception cref="ArgumentException">The matrix is empty or a cost is not finite.</exception>
    public static int[] Minimize(double[,] costs) => Solve(costs, 1);

    /// <summary>Assigns rows to different columns so that the sum of the chosen values is greatest. See <see cref="Minimize(double[,])"/>.</summary>
    /// <param name="values">Finite values [rows, columns].</param>
    public static int[] Maximize(double[,] values) => Solve(values, -1);

    /// <summary>See <see cref="Minimize(double[,])"/>.</summary>
    /// <param name="costs">Finite costs [rows, columns], any floating type and device.</param>
    public static int[] Minimize(Tensor costs) => Solve(costs, 1);

    /// <summary>See <see cref="Maximize(double[,])"/>.</summary>
    /// <param name="values">Finite values [rows, columns], any floating type and device.</param>
    public static int[] Maximize(Tensor values) => Solve(values, -1);

    private static int[] Solve(double[,] matrix, int sign)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        if (matrix.Length == 0) throw new ArgumentException("The cost matrix is empty.", nameof(matrix));
        int rows = matrix.GetLength(0), columns = matrix.GetLength(1);
        if (rows > columns)
        {
            using Tensor tall = tensor(matrix);
            return Solve(tall, sign);
        }
        fixed (double* costs = matrix) return new Problem(costs, rows, columns, sign).Solve().ColumnOf;
    }

    private static int[] Solve(Tensor matrix, int sign)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        if (matrix.dim() != 2) throw new ArgumentException($"The costs must be a matrix, not [{string.Join(", ", matrix.shape)}].", nameof(matrix));
        if (matrix.numel() == 0) throw new ArgumentException("The cost matrix is empty.", nameof(matrix));
        using var ungraphed = no_grad();
        using DisposeScope scope = NewDisposeScope();
        int rows = checked((int)matrix.shape[0]), columns = checked((int)matrix.shape[1]);
        bool transposed = rows > columns;
        Tensor costs = matrix.detach().to(float64).cpu();
        costs = (transposed ? costs.t() : costs).contiguous();
        (int[] columnOf, int[] rowOf) = new Problem(TensorMemory.Pointer<double>(costs), Math.Min(rows, columns), Math.Max(rows, columns), sign).Solve();
        GC.KeepAlive(costs);
        return transposed ? rowOf : columnOf;
    }

    /// <summary>Costs are sign * values, rows are at most as many as columns.</summary>
    private readonly struct Problem(double* values, int rows, int columns, int sign)
    {
        public (int[] ColumnOf, int[] RowOf) Solve()
        {
            if (!IsFinite()) throw new ArgumentException("The costs must be finite.");
            int[] columnOf = new int[rows], rowOf = new int[columns];
            Array.Fill(columnOf, -1);
            Array.Fill(rowOf, -1);
            // The potential of a column. Where columns may stay over it is 0 until one is assigned and at most 0 afterwards; that of a row follows from its column.
            using var potentials = new NativeBuffer<double>(columns);
            double* v = potentials.Pointer;
            if (rows == columns) ReduceColumns(v, columnOf, rowOf);
            List<int> free = [.. Enumerable.Range(0, rows)];
            free.RemoveAll(row => columnOf[row] >= 0);
            for (int pass = 0; pass < Reductions && free.Count > 0; pass++) free = ReduceRows(v, columnOf, rowOf, free);
            if (free.Count > 0) Augment(v, columnOf, rowOf, free);
            return (columnOf, rowOf);
        }

        private double* Row(int row) => values + ((long)row * columns);

        // x - x is 0 of every finite number and NaN of the others.
        private bool IsFinite()
        {
            long length = (long)rows * columns, i = 0;
            Vector512<double> sum = Vector512<double>.Zero;
            for (; i + 8 <= length; i += 8)
            {
                Vector512<double> x = Vector512.Load(values + i);
                sum += x - x;
            }
            double total = Vector512.Sum(sum);
            for (; i < length; i++) total += values[i] - values[i];
            return total == 0;
        }

        // The potential of each column becomes its least cost, at a row that gets the column unless it has one.
        private void ReduceColumns(double* v, int[] columnOf, int[] rowOf)
        {
            using var rowsOfLeast = new NativeBuffer<double>(columns); // doubles to fit the vectors
            double* at = rowsOfLeast.Pointer;
            new Span<double>(v, columns).Fill(double.PositiveInfinity);
            Vector512<double> factor = Vector512.Create((double)sign);
            for (int row = 0; row < rows; row++)
            {
                double* cost = Row(row);
                Vector512<double> here = Vector512.Create((double)row);
                int j = 0;
                for (; j + 8 <= columns; j += 8)
                {
                    Vector512<double> x = Vector512.Load(cost + j) * factor, least = Vector512.Load(v + j), lower = Vector512.LessThan(x, least);
                    Vector512.ConditionalSelect(lower, x, least).Store(v + j);
                    Vector512.ConditionalSelect(lower, here, Vector512.Load(at + j)).Store(at + j);
                }
                for (; j < columns; j++)
                    if (sign * cost[j] < v[j]) (v[j], at[j]) = (sign * cost[j], row);
            }
            for (int j = columns - 1; j >= 0; j--)
            {
                int row = (int)at[j];
                if (columnOf[row] < 0) (columnOf[row], rowOf[j]) = (j, row);
            }
        }

        // Gives each free row its cheapest column at the price that makes the second cheapest as good; who held the column becomes free.
        private List<int> ReduceRows(double* v, int[] columnOf, int[] rowOf, List<int> free)
        {
            var later = new List<int>();
            var now = new Stack<int>(Enumerable.Reverse(free));
            long budget = 4L * free.Count + columns; // prices may fall by tiny steps for long
            while (now.TryPop(out int row))
            {
                (double first, int at, double second, int next) = TwoLeast(Row(row), v);
                bool cheaper = first < second && next >= 0;
                if (!cheaper && rowOf[at] >= 0 && next >= 0) at = next; // equally good, and perhaps free
                int displaced = rowOf[at];
                if (cheaper) v[at] -= second - first;
                (columnOf[row], rowOf[at]) = (at, row);
                if (displaced < 0) continue;
                columnOf[displaced] = -1;
                if (cheaper && budget-- > 0) now.Push(displaced);
                else later.Add(displaced);
            }
            return later;
        }

        private (double First, int At, double Second, int Next) TwoLeast(double* cost, double* v)
        {
            Vector512<double> first = Vector512.Create(double.PositiveInfinity), second = first, firstAt = Vector512.Create(-1.0), secondAt = firstAt, index = Vector512.Create(0.0, 1, 2, 3, 4, 5, 6, 7), factor = Vector512.Create((double)sign);
            int j = 0;
            for (; j + 8 <= columns; j += 8, index += Vector512.Create(8.0))
            {
                Vector512<double> reduced = (Vector512.Load(cost + j) * factor) - Vector512.Load(v + j);
                Vector512<double> lower = Vector512.LessThan(reduced, first), middle = Vector512.LessThan(reduced, second);
                second = Vector512.ConditionalSelect(lower, first, Vector512.ConditionalSelect(middle, reduced, second));
                secondAt = Vector512.ConditionalSelect(lower, firstAt, Vector512.ConditionalSelect(middle, index, secondAt));
                first = Vector512.ConditionalSelect(lower, reduced, first);
                firstAt = Vector512.ConditionalSelect(lower, index, firstAt);
            }
            (double First, int At, double Second, int Next) best = (double.PositiveInfinity, -1, double.PositiveInfinity, -1);
            void Offer(double value, int at)
            {
                if (at < 0) return;
                if (value < best.First || (value == best.First && at < best.At)) best = (value, at, best.First, best.At);
                else if (value < best.Second || (value == best.Second && at < best.Next)) best = (best.First, best.At, value, at);
            }
            for (int lane = 0; lane < 8; lane++)
            {
                Offer(first[lane], (int)firstAt[lane]);
                Offer(second[lane], (int)secondAt[lane]);
            }
            for (; j < columns; j++) Offer((sign * cost[j]) - v[j], j);
            return best;
        }

        // Dijkstra on reduced costs from each free row to the nearest free column.
        private void Augment(double* v, int[] columnOf, int[] rowOf, List<int> free)
        {
            using var distances = new NativeBuffer<double>(columns);  // of columns that are not scanned; infinite of those that are
            using var finals = new NativeBuffer<double>(columns);     // of columns that are scanned
            using var origins = new NativeBuffer<double>(columns);    // the row before a column on its path; doubles to fit the vectors
            double* distance = distances.Pointer, final = finals.Pointer, previous = origins.Pointer;
            var scanned = new List<int>();
            var nearest = new Queue<int>();
            foreach (int start in free)
            {
                scanned.Clear();
                nearest.Clear();
                double* cost = Row(start);
                for (int j = 0; j < columns; j++) (distance[j], previous[j]) = ((sign * cost[j]) - v[j], start);
                double least = Least(distance);
                int sink = Collect(distance, final, least, rowOf, nearest);
                while (sink < 0)
                {
                    int column = nearest.Dequeue(), row = rowOf[column];
                    scanned.Add(column);
                    cost = Row(row);
                    double next = Relax(cost, v, distance, previous, least - (sign * cost[column]) + v[column], row);
                    if (nearest.Count > 0 && next > least) continue;
                    least = Math.Max(least, next); // rounding may find a way that is shorter
                    sink = Collect(distance, final, next, rowOf, nearest);
                }
                foreach (int j in scanned) v[j] += final[j] - least;
                for (int j = sink, i = -1; i != start;)
                {
                    i = (int)previous[j];
                    rowOf[j] = i;
                    (columnOf[i], j) = (j, columnOf[i]);
                }
            }
        }

        // Shortens the distances of columns that are not scanned by a way over a row; returns the least distance.
        private double Relax(double* cost, double* v, double* distance, double* previous, double offset, int row)
        {
            Vector512<double> least = Vector512.Create(double.PositiveInfinity), shift = Vector512.Create(offset), origin = Vector512.Create((double)row), infinite = least, factor = Vector512.Create((double)sign);
            int j = 0;
            for (; j + 8 <= columns; j += 8)
            {
                Vector512<double> old = Vector512.Load(distance + j), through = (Vector512.Load(cost + j) * factor) - Vector512.Load(v + j) + shift;
                Vector512<double> shorter = Vector512.LessThan(through, old) & Vector512.LessThan(old, infinite);
                old = Vector512.ConditionalSelect(shorter, through, old);
                old.Store(distance + j);
                Vector512.ConditionalSelect(shorter, origin, Vector512.Load(previous + j)).Store(previous + j);
                least = Vector512.Min(least, old);
            }
            double result = double.PositiveInfinity;
            for (int lane = 0; lane < 8; lane++) result = Math.Min(result, least[lane]);
            for (; j < columns; j++)
            {
                double through = (sign * cost[j]) - v[j] + offset;
                if (double.IsInfinity(distance[j])) continue;
                if (through < distance[j]) (distance[j], previous[j]) = (through, row);
                result = Math.Min(result, distance[j]);
            }
            return result;
        }

        private double Least(double* distance)
        {
            double least = double.PositiveInfinity;
            for (int j = 0; j < columns; j++) least = Math.Min(least, distance[j]);
            return least;
        }

        // Takes all columns at the least distance out of the open ones; returns a free one among them, or -1.
        private int Collect(double* distance, double* final, double least, int[] rowOf, Queue<int> nearest)
        {
            int j = 0;
            Vector512<double> level = Vector512.Create(least);
            while (j < columns)
            {
                if (j + 8 <= columns && !Vector512.LessThanOrEqualAny(Vector512.Load(distance + j), level))
                {
                    j += 8;
                    continue;
                }
                int end = Math.Min(j + 8, columns);
                for (; j < end; j++)
                {
                    if (distance[j] > least) continue;
                    if (rowOf[j] < 0) return j;
                    final[j] = distance[j];
                    distance[j] = double.PositiveInfinity;
                    nearest.Enqueue(j);
                }
            }
            return -1;
        }
    }
}
