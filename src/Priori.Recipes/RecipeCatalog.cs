using Priori.Reproduction;

namespace Priori.Recipes;

/// <summary>The recipes of this assembly, found by reflection.</summary>
public static class RecipeCatalog
{
    /// <summary>All recipes, by id.</summary>
    public static IReadOnlyList<IRecipe> All { get; } = RecipeRunner.Find([typeof(RecipeCatalog).Assembly]);
}
