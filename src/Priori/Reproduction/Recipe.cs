namespace Priori.Reproduction;

/// <summary>How much a recipe does.</summary>
public enum Budget
{
    /// <summary>At most 20 s on two cores: exercises every branch, judges no claim.</summary>
    Smoke,

    /// <summary>At most 10 min on two cores, at least three seeds: judges the claims.</summary>
    Full,

    /// <summary>The paper's own dataset, architecture and schedule, for a GPU machine.</summary>
    Paper,
}

/// <summary>The paper a method is from.</summary>
/// <param name="Title">Its title.</param>
/// <param name="Authors">Its authors, as they are cited.</param>
/// <param name="Venue">Where it appeared.</param>
/// <param name="Year">When.</param>
/// <param name="Url">Where to read it.</param>
public sealed record Paper(string Title, string Authors, string Venue, int Year, string Url);

/// <summary>One inequality that a paper claims, with its margin, on figures averaged over seeds.</summary>
/// <param name="Id">A short name, unique within the recipe.</param>
/// <param name="Text">The inequality in words.</param>
public sealed record Claim(string Id, string Text);

/// <summary>Options of a recipe: a record whose properties carry <see cref="OptionAttribute"/>.</summary>
public abstract record RecipeOptions
{
    /// <summary>Checks what single ranges cannot: how options fit together.</summary>
    /// <exception cref="Runtime.BadInputException">An option does not fit.</exception>
    public virtual void Validate()
    {
    }
}

/// <summary>Makes a property an option: <c>EarlyStop</c> is <c>--set early-stop=...</c>.</summary>
/// <param name="description">What it is, in a few words, with its unit.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class OptionAttribute(string description) : Attribute
{
    /// <summary>What it is.</summary>
    public string Description { get; } = description;

    /// <summary>Smallest allowed value.</summary>
    public double Min { get; set; } = double.NegativeInfinity;

    /// <summary>Largest allowed value.</summary>
    public double Max { get; set; } = double.PositiveInfinity;

    /// <summary>Allowed values of a text option; any when empty.</summary>
    public string[] Choices { get; set; } = [];
}

/// <summary>A recipe, whatever its options.</summary>
public interface IRecipe
{
    /// <summary>The method's id, e.g. <c>arm-net</c>: its name in the command line, the docs and the file names.</summary>
    string Id { get; }

    /// <summary>Area of the field: the folder.</summary>
    string Area { get; }

    /// <summary>The method's name.</summary>
    string Title { get; }

    /// <summary>One sentence: what it is for.</summary>
    string Summary { get; }

    /// <summary>The paper.</summary>
    Paper Paper { get; }

    /// <summary>The claims it checks.</summary>
    IReadOnlyList<Claim> Claims { get; }

    /// <summary>Further files that it takes of the user's own data (<c>--data.NAME PATH</c>): what each is, by name.</summary>
    IReadOnlyDictionary<string, string> DataParts { get; }

    /// <summary>Type of its options.</summary>
    Type OptionsType { get; }

    /// <summary>Options of a budget.</summary>
    /// <param name="budget">The budget.</param>
    RecipeOptions Defaults(Budget budget);

    /// <summary>Seeds of a budget.</summary>
    /// <param name="budget">The budget.</param>
    IReadOnlyList<int> Seeds(Budget budget);

    /// <summary>Trains the method and its baselines, measures, draws, checks the claims.</summary>
    /// <param name="options">Options of <see cref="OptionsType"/>.</param>
    /// <param name="context">Data, seeds, device, and where results go.</param>
    void Run(RecipeOptions options, RunContext context);

    /// <summary>Uses the model of a run on new data.</summary>
    /// <param name="run">The run.</param>
    /// <param name="context">The data, and where the output goes.</param>
    void Apply(SavedRun run, ApplyContext context);
}

/// <summary>The reproduction of one method. Recipes are found by reflection: writing one is all there is to do.</summary>
/// <typeparam name="TOptions">Its options.</typeparam>
public abstract class Recipe<TOptions> : IRecipe
    where TOptions : RecipeOptions, new()
{
    /// <inheritdoc/>
    public abstract string Id { get; }

    /// <inheritdoc/>
    public abstract string Area { get; }

    /// <inheritdoc/>
    public abstract string Title { get; }

    /// <inheritdoc/>
    public abstract string Summary { get; }

    /// <inheritdoc/>
    public abstract Paper Paper { get; }

    /// <inheritdoc/>
    public abstract IReadOnlyList<Claim> Claims { get; }

    /// <inheritdoc/>
    public virtual IReadOnlyDictionary<string, string> DataParts => new Dictionary<string, string>();

    /// <inheritdoc/>
    public Type OptionsType => typeof(TOptions);

    /// <summary>Options of a budget.</summary>
    /// <param name="budget">The budget.</param>
    public abstract TOptions Defaults(Budget budget);

    /// <inheritdoc/>
    public virtual IReadOnlyList<int> Seeds(Budget budget) => budget == Budget.Smoke ? [0] : [0, 1, 2];

    /// <summary>Trains the method and its baselines, measures, draws, checks the claims.</summary>
    /// <param name="options">The options, validated.</param>
    /// <param name="context">Data, seeds, device, and where results go.</param>
    public abstract void Run(TOptions options, RunContext context);

    /// <inheritdoc/>
    public abstract void Apply(SavedRun run, ApplyContext context);

    RecipeOptions IRecipe.Defaults(Budget budget) => Defaults(budget);

    void IRecipe.Run(RecipeOptions options, RunContext context) => Run((TOptions)options, context);
}
