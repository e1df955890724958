using System.Globalization;
using Priori.ClickThrough;
using Priori.Data;
using Priori.Nn;
using Priori.Runtime;

namespace Priori.Tests.ClickThrough;

public class ArmorTests
{
    [Fact]
    public void A_table_gives_a_predictor_that_names_the_columns_it_used()
    {
        Table table = Loans(600);
        using ArmorModel model = Armor.Fit(table, "approved", new ArmorOptions { Epochs = 15, Neurons = 8, MlpHidden = [16], BatchSize = 64, LearningRate = 1e-2, Patience = 15 });
        Tensor probability = model.Predict(table);
        Assert.Equal([600], probability.shape);
        double auc = model.Task.Evaluate(probability.logit(1e-6).unsqueeze(-1), tensor(Approved(table)))["auc"];
        Assert.True(auc > .95, $"AUC {auc:F3}");

        ArmNetExplanation global = model.ExplainGlobal(table), row = model.ExplainRow(table, 17);
        Assert.Equal((600, 1), (global.Rows, row.Rows));
        Assert.Equal(["income", "region", "branch"], model.Schema.Fields.Select(f => f.Name));
        Assert.Equal(1, global.Fields.Sum(f => f.Importance), 1e-6);
        Assert.Equal(1, row.Fields.Sum(f => f.Importance), 1e-6);
        Assert.Equal(model.History.Series["auc"].Max(), model.History.Series["auc"][model.History.BestEpoch - 1]);
    }

    [Fact]
    public void The_same_seed_gives_the_same_model()
    {
        Table table = Loans(120);
        var options = new ArmorOptions { Epochs = 2, Neurons = 4, MlpHidden = [8], BatchSize = 32, Seed = 3 };
        using ArmorModel first = Armor.Fit(table, "approved", options), second = Armor.Fit(table, "approved", options), other = Armor.Fit(table, "approved", options with { Seed = 4 });
        Assert.True(first.Predict(table).equal(second.Predict(table)).all().item<bool>());
        Assert.False(first.Predict(table).equal(other.Predict(table)).all().item<bool>());
    }

    [Fact]
    public void Numbers_and_several_classes_are_targets_too()
    {
        string[] rows = [.. Enumerable.Range(0, 300).Select(i => $"{i % 10},{i % 7},{3 * (i % 10) + .5},{"abc"[i % 10 / 4]}")];
        using var folder = new Priori.Tests.Data.TemporaryFolder();
        Table table = Table.Read(folder.File("t.csv", "a,b,y,c\n" + string.Join('\n', rows)));
        var options = new ArmorOptions { Epochs = 30, Neurons = 8, MlpHidden = [16], BatchSize = 32, LearningRate = 1e-2, Patience = 30 };
        using ArmorModel number = Armor.Fit(table, "y", options with { Columns = new ColumnSchemaOptions { Ignore = ["c"] } });
        Assert.True(number.History.Series["r2"].Max() > .9);
        Assert.InRange(number.Predict(table).mean().ToDouble(), 12, 16);
        using ArmorModel classes = Armor.Fit(table, "c", options with { Columns = new ColumnSchemaOptions { Ignore = ["y"], Scaling = NumericScaling.Standardize } });
        Assert.False(((FieldEmbedding)classes.Model.Embedding).ClampsValues);
        Assert.True(((FieldEmbedding)number.Model.Embedding).ClampsValues);
        Assert.Equal([300, 3], classes.Predict(table).shape);
        Assert.True(classes.History.Series["accuracy"].Max() > .9);
    }

    [Fact]
    public void Bad_tables_and_targets_are_refused()
    {
        Table table = Loans(40);
        Assert.Throws<BadInputException>(() => Armor.Fit(table, "no such column"));
        Assert.Throws<ArgumentException>(() => Armor.Fit(Loans(3), "approved"));
        Assert.Throws<ArgumentOutOfRangeException>(() => Armor.Fit(table, "approved", new ArmorOptions { ValidationFraction = 1 }));
        using ArmorModel model = Armor.Fit(table, "approved", new ArmorOptions { Epochs = 1, Neurons = 2, MlpHidden = [4] });
        Assert.Throws<ArgumentOutOfRangeException>(() => model.ExplainRow(table, 40));
    }

    /// <summary>Approved when income is high and the region is not "north", so both columns and their product matter; branch is noise.</summary>
    private static Table Loans(int rows)
    {
        var random = new SplitMix64(5);
        var (income, region, branch, approved) = (new List<string?>(), new List<string?>(), new List<string?>(), new List<string?>());
        for (int i = 0; i < rows; i++)
        {
            int amount = random.Next(100), place = random.Next(3);
            income.Add(amount.ToString(CultureInfo.InvariantCulture));
            region.Add(new[] { "north", "south", "west" }[place]);
            branch.Add($"b{random.Next(5)}");
            approved.Add(amount > 50 && place != 0 ? "yes" : "no");
        }
        return new Table([TableColumn.Texts("income", income), TableColumn.Texts("region", region), TableColumn.Texts("branch", branch), TableColumn.Texts("approved", approved)]);
    }

    private static float[] Approved(Table table) => [.. table["approved"].Select(v => v == "yes" ? 1f : 0f)];
}
