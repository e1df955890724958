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
            throw new BadInputException($"{what}: {exception.Message}", exception);
        }
    }

    /// <summary>The same for work without a result.</summary>
    public static void Refusing(string what, Action work) => Refusing(what, () =>
    {
        work();
        return 0;
    });
}
