namespace Priori.Numerics;

/// <summary>
/// The linear assignment problem on real costs: shortest augmenting paths with dual potentials (Jonker and Volgenant, Computing 1987;
/// rectangular form of Crouse, IEEE TAES 2016), O(rows * rows * columns). Exact on doubles: costs are never scaled to integers.
/// </summary>
public static class LinearAssignment
{
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
    public static int[] Minimize(Tensor costs) => Solve(ToArray(costs), 1);

    /// <summary>See <see cref="Maximize(double[,])"/>.</summary>
    /// <param name="values">Finite values [rows, columns], any floating type and device.</param>
    public static int[] Maximize(Tensor values) => Solve(ToArray(values), -1);

    private static double[,] ToArray(Tensor matrix)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        if (matrix.dim() != 2) throw new ArgumentException($"The costs must be a matrix, not [{string.Join(", ", matrix.shape)}].", nameof(matrix));
        using Tensor flat = matrix.detach().to(float64).cpu().contiguous();
        var array = new double[matrix.shape[0], matrix.shape[1]];
        if (array.Length > 0) Buffer.BlockCopy(flat.data<double>().ToArray(), 0, array, 0, array.Length * sizeof(double));
        return array;
    }

    private static int[] Solve(double[,] matrix, int sign)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        int rows = matrix.GetLength(0), columns = matrix.GetLength(1);
        if (matrix.Length == 0) throw new ArgumentException("The cost matrix is empty.", nameof(matrix));
        foreach (double cost in matrix)
            if (!double.IsFinite(cost)) throw new ArgumentException("The costs must be finite.", nameof(matrix));
        bool transposed = rows > columns;
        if (transposed) (rows, columns) = (columns, rows);
        double Cost(int i, int j) => sign * (transposed ? matrix[j, i] : matrix[i, j]);

        double[] u = new double[rows], v = new double[columns], distance = new double[columns];
        int[] columnOf = new int[rows], rowOf = new int[columns], previous = new int[columns], remaining = new int[columns];
        Array.Fill(columnOf, -1);
        Array.Fill(rowOf, -1);
        var scannedColumns = new List<int>(columns);
        for (int start = 0; start < rows; start++)
        {
            // Dijkstra on reduced costs from the free row to the nearest free column.
            Array.Fill(distance, double.PositiveInfinity);
            scannedColumns.Clear();
            for (int j = 0; j < columns; j++) remaining[j] = j;
            int left = columns, row = start, sink = -1;
            double shortest = 0;
            while (sink < 0)
            {
                double least = double.PositiveInfinity;
                int at = -1;
                for (int k = 0; k < left; k++)
                {
                    int j = remaining[k];
                    double through = shortest + Cost(row, j) - u[row] - v[j];
                    if (through < distance[j])
                    {
                        distance[j] = through;
                        previous[j] = row;
                    }
                    if (distance[j] < least || (distance[j] == least && rowOf[j] < 0))
                    {
                        least = distance[j];
                        at = k;
                    }
                }
                shortest = least;
                int column = remaining[at];
                remaining[at] = remaining[--left];
                if (rowOf[column] < 0) sink = column;
                else
                {
                    scannedColumns.Add(column);
                    row = rowOf[column];
                }
            }
            u[start] += shortest;
            foreach (int j in scannedColumns)
            {
                u[rowOf[j]] += shortest - distance[j];
                v[j] -= shortest - distance[j];
            }
            for (int j = sink, i = -1; i != start;)
            {
                i = previous[j];
                rowOf[j] = i;
                (columnOf[i], j) = (j, columnOf[i]);
            }
        }
        if (!transposed) return columnOf;
        return rowOf;
    }
}
