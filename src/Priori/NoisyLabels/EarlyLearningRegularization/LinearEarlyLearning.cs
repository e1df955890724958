using Priori.Runtime;

namespace Priori.NoisyLabels;

/// <summary>
/// Early learning and memorisation in a linear model (Liu et al., NeurIPS 2020, sec. 3, Theorem 1): x = y* v + sigma N(0, I_p) with |v| = 1,
/// labels flipped with probability D, logistic loss mean log(1 + exp(-y &lt;theta, x&gt;)), full-batch gradient descent from 0.
/// At first the gradient is correlated with v and flipped rows are predicted as their true class; when p >= n all labels, the wrong ones included, are fitted in the end.
/// The shares are given after each step; element 0 belongs to step 1.
/// </summary>
/// <param name="FlippedTrue">Flipped rows predicted as their true class.</param>
/// <param name="FlippedMemorized">Flipped rows predicted as their given label.</param>
/// <param name="CleanCorrect">Rows with the right label predicted as it.</param>
public sealed record LinearEarlyLearning(double[] FlippedTrue, double[] FlippedMemorized, double[] CleanCorrect)
{
    /// <summary>Draws data and runs gradient descent.</summary>
    /// <param name="steps">Number of steps, at least 1.</param>
    /// <param name="seed">Seed of the data.</param>
    /// <param name="exampleCount">Number of rows n, at least 2.</param>
    /// <param name="dimension">Dimension p, at least 1.</param>
    /// <param name="sigma">Standard deviation of the noise around each class mean, at least 0.</param>
    /// <param name="flipRate">Probability D that a label is flipped, in [0, 1/2).</param>
    /// <param name="learningRate">Step size of gradient descent, above 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">An argument is outside its range.</exception>
    public static LinearEarlyLearning Run(int steps, int seed, int exampleCount = 400, int dimension = 400, double sigma = 0.4, double flipRate = 0.3, double learningRate = 1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(steps, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(exampleCount, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(dimension, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(sigma);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(learningRate);
        if (flipRate is not (>= 0 and < 0.5)) throw new ArgumentOutOfRangeException(nameof(flipRate), flipRate, "The flip rate must be in [0, 1/2).");

        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        SplitMix64 random = SplitMix64.For(seed, 3);
        double[] sides = [.. Enumerable.Range(0, exampleCount).Select(_ => random.NextDouble() < 0.5 ? -1.0 : 1.0)];
        double[] given = [.. sides.Select(s => random.NextDouble() < flipRate ? -s : s)];
        double[] noise = [.. Enumerable.Range(0, exampleCount * dimension).Select(_ => random.NextGaussian())];

        // v is the first axis: the Gaussian is rotation invariant, so this loses nothing.
        Tensor truth = tensor(sides), labels = tensor(given);
        Tensor x = sigma * tensor(noise).reshape(exampleCount, dimension);
        x.select(1, 0).add_(truth);
        Tensor signed = (labels.unsqueeze(1) * x).T / exampleCount;
        Tensor flipped = truth.ne(labels), clean = flipped.logical_not();

        Tensor theta = zeros(dimension, ScalarType.Float64);
        Tensor outputs = zeros(exampleCount, ScalarType.Float64);
        var path = new LinearEarlyLearning(new double[steps], new double[steps], new double[steps]);
        for (int step = 0; step < steps; step++)
        {
            using var stepScope = NewDisposeScope();
            theta.add_(signed.mv(sigmoid(-labels * outputs)), alpha: learningRate);
            outputs.copy_(x.mv(theta));
            Tensor predicted = outputs.sign();
            path.FlippedTrue[step] = Share(predicted.eq(truth), flipped);
            path.FlippedMemorized[step] = Share(predicted.eq(labels), flipped);
            path.CleanCorrect[step] = Share(predicted.eq(truth), clean);
        }
        return path;
    }

    private static double Share(Tensor hit, Tensor among) => hit.logical_and(among).sum().ToDouble() / among.sum().ToDouble();
}
