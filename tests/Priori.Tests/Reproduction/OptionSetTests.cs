using Priori.Reproduction;
using Priori.Runtime;

namespace Priori.Tests.Reproduction;

public class OptionSetTests
{
    public enum NoiseKind
    {
        Symmetric,
        PairFlip,
    }

    public sealed record Options : RecipeOptions
    {
        [Option("Share of wrong labels.", Min = 0, Max = 1)]
        public double Noise { get; init; } = 0.4;

        [Option("Kind of noise.")]
        public NoiseKind NoiseKind { get; init; }

        [Option("Rows.", Min = 1)]
        public int TrainRows { get; init; } = 10;

        [Option("Widths.", Min = 1)]
        public IReadOnlyList<int> Hidden { get; init; } = [8, 4];

        [Option("Estimator.", Choices = ["ebab", "akde"])]
        public string Estimator { get; init; } = "ebab";

        [Option("Largest norm.", Min = 0)]
        public double? Clip { get; init; }

        public override void Validate()
        {
            if (Noise > 0.5 && TrainRows < 5) throw new BadInputException("Too few rows for so much noise.");
        }
    }

    [Fact]
    public void Options_are_described_and_set_by_their_kebab_case_names()
    {
        var options = (Options)OptionSet.With(new Options(), [new("noise", "0.2"), new("noise-kind", "pair-flip"), new("hidden", "3, 5,7"), new("clip", "1.5"), new("estimator", "akde")]);
        Assert.Equal((0.2, NoiseKind.PairFlip, 1.5, "akde", 10), (options.Noise, options.NoiseKind, options.Clip, options.Estimator, options.TrainRows));
        Assert.Equal([3, 5, 7], options.Hidden);
        Assert.Equal(["noise", "noise-kind", "train-rows", "hidden", "estimator", "clip"], OptionSet.Describe(options).Select(o => o.Name));
        Assert.Equal("in 0..1", OptionSet.Describe(options)[0].Range);
    }

    [Theory]
    [InlineData("noize", "0.2", "unknown")]
    [InlineData("noise", "much", "number")]
    [InlineData("noise", "1.01", "in 0..1")]
    [InlineData("noise", "nan", "number")]
    [InlineData("train-rows", "1.5", "whole number")]
    [InlineData("train-rows", "0", "at least 1")]
    [InlineData("hidden", "4,0", "at least 1")]
    [InlineData("noise-kind", "other", "pair-flip")]
    [InlineData("estimator", "knn", "one of ebab, akde")]
    public void A_wrong_name_or_value_is_refused_with_what_would_be_right(string name, string value, string says)
    {
        var error = Assert.Throws<BadInputException>(() => OptionSet.With(new Options(), [new(name, value)]));
        Assert.Contains(says, error.Message, StringComparison.Ordinal);
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Options_that_do_not_fit_together_are_refused()
        => Assert.Throws<BadInputException>(() => OptionSet.With(new Options(), [new("noise", "0.9"), new("train-rows", "2")]));
}
