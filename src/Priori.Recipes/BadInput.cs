using Priori.Runtime;

namespace Priori.Recipes;

/// <summary>Turns what library parts say of bad arguments into what the user did wrong.</summary>
internal static class BadInput
{
    /// <summary>Runs work on the user's input; an argument that a library part refuses becomes one sentence that names the input.</summary>
    public static T Refusing<T>(string what, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (ArgumentException exception)
        {
            // The user has no parameters: .NET adds their names to the message.
            string suffix = $" (Parameter '{exception.ParamName}')";
            string message = exception.Message.EndsWith(suffix, StringComparison.Ordinal) ? exception.Message[..^suffix.Length] : exception.Message;
            throw new BadInputException($"{what}: {message}", exception);
        }
    }

    /// <summary>The same for work without a result.</summary>
    public static void Refusing(string what, Action work) => Refusing(what, () =>
    {
        work();
        return 0;
    });
}
