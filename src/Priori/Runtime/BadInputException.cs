namespace Priori.Runtime;

/// <summary>
/// Something the user gave cannot be used. The message is one sentence that says what, where, and what would be right;
/// the command line prints it and exits with code 2.
/// </summary>
/// <param name="message">The sentence.</param>
/// <param name="inner">What was caught, if anything.</param>
public sealed class BadInputException(string message, Exception? inner = null) : Exception(message, inner);
