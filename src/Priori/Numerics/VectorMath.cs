using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Priori.Numerics;

/// <summary>Elementary functions of whole vector registers, to the last bits of their type.</summary>
internal static class VectorMath
{
    /// <summary>exp(-x) of a greater x is 0 here; of this one it is 3e-308.</summary>
    public const double GreatestExponent = 708;

    /// <summary>exp(-x) for x at least 0: the Taylor series about the nearest multiple of log 2 (its remainder is below 2e-16), and the integer put into the exponent.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> ExpNegative(Vector512<double> x)
    {
        Vector512<double> counted = Vector512.LessThanOrEqual(x, Vector512.Create(GreatestExponent));
        x = -Vector512.Min(x, Vector512.Create(GreatestExponent));
        Vector512<double> whole = Vector512.Round(x * 1.4426950408889634);
        Vector512<double> r = Vector512.FusedMultiplyAdd(whole, Vector512.Create(-0.6931471803691238), x); // log 2 in two parts (Cody and Waite)
        r = Vector512.FusedMultiplyAdd(whole, Vector512.Create(-1.9082149292705877e-10), r);
        Vector512<double> series = Vector512.Create(1 / 479001600.0);
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 39916800.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 3628800.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 362880.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 40320.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 5040.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 720.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 120.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 24.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(1 / 6.0));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512.Create(0.5));
        series = Vector512.FusedMultiplyAdd(series, r, Vector512<double>.One);
        series = Vector512.FusedMultiplyAdd(series, r, Vector512<double>.One);
        // Adding 1.5 * 2^52 leaves the integer in the lowest bits.
        Vector512<long> integer = (whole + Vector512.Create(6755399441055744.0)).AsInt64() << 52;
        return Vector512.ConditionalSelect(counted, (series.AsInt64() + integer).AsDouble(), Vector512<double>.Zero);
    }

    /// <summary>The logarithm to base 2 of a positive x by the polynomial of the Cephes library (S. Moshier, logf).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<float> Log2(Vector<float> x)
    {
        Vector<int> bits = Vector.Max(x, new Vector<float>(1e-37f)).As<float, int>(), exponent = (bits - new Vector<int>(0x3F3504F3)) >> 23; // The mantissa is in [sqrt(1/2), sqrt(2)).
        Vector<float> r = (bits - (exponent << 23)).As<int, float>() - Vector<float>.One, square = r * r;
        Vector<float> series = new(7.0376836292e-2f);
        series = Vector.FusedMultiplyAdd(series, r, new(-1.1514610310e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(1.1676998740e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(-1.2420140846e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(1.4249322787e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(-1.6668057665e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(2.0000714765e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(-2.4999993993e-1f));
        series = Vector.FusedMultiplyAdd(series, r, new(3.3333331174e-1f));
        Vector<float> logarithm = r + (square * Vector.FusedMultiplyAdd(series, r, new(-0.5f)));
        return Vector.FusedMultiplyAdd(logarithm, new(1.44269504f), Vector.ConvertToSingle(exponent));
    }

    /// <summary>2^x: the Taylor series about the nearest integer (its remainder is below 6e-9), and the integer put into the exponent.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<float> Exp2(Vector<float> x)
    {
        x = Vector.Min(Vector.Max(x, new Vector<float>(-126)), new Vector<float>(127));
        Vector<float> whole = Vector.Round(x), f = x - whole;
        Vector<float> series = new(1.52527338e-5f);
        series = Vector.FusedMultiplyAdd(series, f, new(1.54035304e-4f));
        series = Vector.FusedMultiplyAdd(series, f, new(1.33335581e-3f));
        series = Vector.FusedMultiplyAdd(series, f, new(9.61812911e-3f));
        series = Vector.FusedMultiplyAdd(series, f, new(5.55041087e-2f));
        series = Vector.FusedMultiplyAdd(series, f, new(0.240226507f));
        series = Vector.FusedMultiplyAdd(series, f, new(0.693147181f));
        series = Vector.FusedMultiplyAdd(series, f, Vector<float>.One);
        return (series.As<float, int>() + (Vector.ConvertToInt32(whole) << 23)).As<int, float>();
    }
}
