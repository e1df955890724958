namespace Priori.Data;

/// <summary>Decimal numbers as most files write them, without the general parser.</summary>
internal static class PlainNumber
{
    private static readonly double[] PowersOfTen = Enumerable.Range(0, 16).Select(power => Math.Pow(10, power)).ToArray();

    /// <summary>A number of up to 15 digits without exponent: both operands of the quotient are exact, so it is rounded correctly. False for anything else, numbers or not.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out double number)
    {
        number = 0;
        int at = text.Length > 0 && text[0] is '-' or '+' ? 1 : 0, digits = 0, decimals = -1;
        bool negative = at == 1 && text[0] == '-';
        long mantissa = 0;
        for (; at < text.Length; at++)
        {
            uint digit = (uint)(text[at] - '0');
            if (digit <= 9)
            {
                if (++digits > 15) return false;
                mantissa = (mantissa * 10) + digit;
                if (decimals >= 0) decimals++;
            }
            else if (text[at] == '.' && decimals < 0) decimals = 0;
            else return false;
        }
        if (digits == 0) return false;
        number = decimals > 0 ? mantissa / PowersOfTen[decimals] : mantissa;
        if (negative) number = -number;
        return true;
    }
}
