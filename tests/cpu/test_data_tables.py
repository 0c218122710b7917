"""CSV and Parquet tables with a target column."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets

from kudari.data import Bundle, Pipeline, load_path
from kudari.errors import DataError


def heard(bundle: Bundle, *parts: str) -> bool:
    """Whether one sentence holds all parts."""
    return any(all(part in sentence for part in parts) for sentence in bundle.said)


def iris() -> pd.DataFrame:
    raw = datasets.load_iris()
    frame = pd.DataFrame(raw.data, columns=["sepal length", "sepal width", "petal length", "petal width"])
    frame["species"] = np.array(raw.target_names)[raw.target]
    return frame


def write(frame: pd.DataFrame, path: Path, **options) -> Path:
    frame.to_csv(path, index=False, **options)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> pd.DataFrame:
    """40 rows with a column of every kind."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(40),
            "age": rng.integers(18, 80, 40),
            "income": rng.normal(50_000, 9_000, 40),
            "city": rng.choice(["Kyoto", "Nara", "Kobe"], 40),
            "joined": pd.date_range("2020-01-01", periods=40, freq="9D").astype(str),
            "country": "Japan",
            "comment": [f"a different text number {i}" for i in range(40)],
            "code": [f"x{i * 7919 % 1009}" for i in range(40)],
            "nothing": np.nan,
            "label": rng.choice(["yes", "no"], 40),
        }
    )
    frame.loc[[3, 8], "income"] = np.nan
    frame.loc[5, "city"] = np.nan
    return frame


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
def test_every_format_gives_the_same_bundle(tmp_path, ending):
    path = tmp_path / f"iris.{ending}"
    if ending == "parquet":
        iris().to_parquet(path)
    else:
        write(iris(), path, sep="\t" if ending == "tsv" else ",")
    bundle = load_path(path)
    reference = load_path(write(iris(), tmp_path / "reference.csv"))
    assert bundle.name == "iris"
    assert bundle.kind == "table"
    assert bundle.classes == ("setosa", "versicolor", "virginica")
    assert bundle.train.inputs.shape == (120, 4)
    assert bundle.train.inputs.dtype == torch.float32
    assert bundle.valid.targets.bincount().tolist() == [10, 10, 10]
    assert torch.equal(bundle.train.inputs, reference.train.inputs)
    assert torch.equal(bundle.valid.targets, reference.valid.targets)


def test_inputs_are_standardised_by_the_training_rows(tmp_path):
    bundle = load_path(write(iris(), tmp_path / "iris.csv"))
    train = bundle.train.inputs.double()
    assert train.mean(0).tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert train.std(0, correction=0).tolist() == pytest.approx([1] * 4, abs=1e-6)
    assert bundle.valid.inputs.double().mean(0).abs().max() > 1e-3


def test_regression_is_inferred_and_targets_come_back_in_their_units(tmp_path):
    raw = datasets.load_diabetes(as_frame=True)
    bundle = load_path(write(raw.frame, tmp_path / "diabetes.csv"))
    assert bundle.task == "regression"
    assert bundle.target == "target"
    assert bundle.classes == ()
    assert bundle.train.targets.shape == (353, 1)
    assert bundle.train.targets.dtype == torch.float32
    assert bundle.train.targets.mean().item() == pytest.approx(0, abs=1e-5)
    assert heard(bundle, "214 different values: regression")
    assert heard(bundle, "'target' (by its name")
    rows = [int(name.removeprefix("row ")) - 1 for name in bundle.valid_names]
    truth = raw.target.to_numpy()[rows]
    assert bundle.pipeline.to_units(bundle.valid.targets)[:, 0].tolist() == pytest.approx(
        truth.tolist(), rel=1e-6
    )
    answer = bundle.pipeline.describe_output(bundle.valid.targets[:1])
    assert answer[0]["prediction"] == pytest.approx(truth[0], rel=1e-6)


@pytest.mark.parametrize(
    ("columns", "asked", "chosen", "why"),
    [
        (["a", "Class", "target"], None, "target", "by its name"),
        (["y", "a", "b"], None, "y", "by its name"),
        (["a", "b", "c"], None, "c", "the last column"),
        (["a", "target", "b"], "a", "a", "as asked"),
    ],
)
def test_the_target_is_chosen_and_said(tmp_path, columns, asked, chosen, why):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=30) for name in columns})
    bundle = load_path(write(frame, tmp_path / "t.csv"), target=asked)
    assert bundle.target == chosen
    assert heard(bundle, f"The target is the column {chosen!r}", why)


def test_an_unknown_target_is_refused_with_a_guess(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'species'"):
        load_path(write(iris(), tmp_path / "iris.csv"), target="specie")


def test_whole_numbers_are_classes_or_values_as_asked(tmp_path):
    raw = datasets.load_wine(as_frame=True).frame
    path = write(raw, tmp_path / "wine.csv")
    assert load_path(path).classes == ("0", "1", "2")
    assert load_path(path, task="regression").task == "regression"
    with pytest.raises(DataError, match="different values for 178 samples"):
        load_path(path, target="flavanoids", task="classification")


def test_columns_of_every_kind(mixed, tmp_path):
    bundle = load_path(write(mixed, tmp_path / "mixed.csv"))
    features = bundle.pipeline.inputs.features
    assert features[:3] == ("age", "income", "income is missing")
    assert features[3:6] == ("city=Kobe", "city=Kyoto", "city=Nara")
    assert sum("joined" in name for name in features) == 5
    for name in ("id", "country", "comment", "code", "nothing"):
        assert heard(bundle, "Left out", repr(name))
        assert not any(feature.startswith(name) for feature in features)
    assert heard(bundle, "Missing values in 'income' (2) and 'city' (1)")
    assert torch.isfinite(bundle.train.inputs).all()
    assert torch.isfinite(bundle.valid.inputs).all()


def test_missing_numbers_become_the_training_median_and_an_indicator(tmp_path):
    frame = pd.DataFrame({"x": [1.0, 2, 3, 100, np.nan] * 8, "label": ["a", "b"] * 20})
    bundle = load_path(write(frame, tmp_path / "t.csv"))
    column = bundle.pipeline.inputs.columns[0]
    train = {int(name.removeprefix("row ")) - 1 for name in bundle.valid_names} ^ set(range(40))
    assert column.median == frame["x"].iloc[sorted(train)].median()
    inputs = bundle.pipeline.inputs.encode_frame(pd.DataFrame({"x": [np.nan, column.median]}))
    assert inputs[0, 0] == inputs[1, 0]
    assert inputs[:, 1].tolist() == [1, 0]


def test_pipeline_reads_new_tables_as_training_did(mixed, tmp_path):
    bundle = load_path(write(mixed, tmp_path / "mixed.csv"))
    pipeline = Pipeline.from_dict(json.loads(json.dumps(bundle.pipeline.to_dict())))
    assert pipeline == bundle.pipeline
    rows = [int(name.removeprefix("row ")) - 1 for name in bundle.valid_names]
    reordered = mixed.iloc[rows][["city", "joined", "income", "age"]].assign(extra=1)
    names, inputs = pipeline.encode(write(reordered, tmp_path / "new.csv"))
    assert torch.equal(inputs, bundle.valid.inputs)
    assert names[:2] == ["row 1", "row 2"]
    names, twice = pipeline.encode([tmp_path / "new.csv", tmp_path / "mixed.csv"])
    assert len(twice) == len(rows) + 40
    assert names[0] == "new.csv row 1"


def test_missing_columns_are_named_when_predicting(mixed, tmp_path):
    pipeline = load_path(write(mixed, tmp_path / "mixed.csv")).pipeline
    path = write(mixed.drop(columns=["age", "city"]), tmp_path / "new.csv")
    with pytest.raises(DataError, match=r"2 columns .* missing: age and city"):
        pipeline.encode(path)
    path = write(mixed.rename(columns={"income": "Income"}), tmp_path / "new.csv")
    with pytest.raises(DataError, match=r"missing: income\. Did you mean 'Income'"):
        pipeline.encode(path)


def test_dates_and_numbers_that_are_read_as_names_for_their_spelling_are_named(tmp_path):
    days = [f"{i % 9 + 10}/02/2023" for i in range(100)]
    frame = pd.DataFrame({"day": days, "share": [f"{i % 7} %" for i in range(100)]})
    frame["born"] = [f"{i % 28 + 1}.{i % 3 + 1}.1970" for i in range(100)]  # too many to learn
    frame["size"] = [f"{i % 4}-{i % 4 + 1}" for i in range(100)]
    frame["label"] = np.arange(100) % 2
    bundle = load_path(write(frame, tmp_path / "t.csv"))
    assert heard(bundle, "Look like dates and are not read as such: 'day' and 'born' (write 2026-01-31).")
    assert heard(bundle, "Look like numbers and are not read as such: 'share' (write 1234.5).")


def test_unseen_categories_share_an_input_that_training_knows_or_set_none(tmp_path):
    rng = np.random.default_rng(0)
    common = rng.choice(["a", "b"], 100).tolist()
    frame = pd.DataFrame({"plain": common, "long": common[:80] + ["r1", "r2", "r3", "r4"] * 5})
    frame["long"] = [f"rare{i}" if i % 10 == 0 else v for i, v in enumerate(frame["long"])]
    frame["label"] = rng.choice(["yes", "no"], 100)
    bundle = load_path(write(frame, tmp_path / "t.csv"))
    plain, long = bundle.pipeline.inputs.columns
    assert not plain.other
    assert long.other
    assert heard(bundle, "Rare categories of 'long'")
    assert plain.encode(pd.Series(["never seen", "a"])).sum(1).tolist() == [0, 1]
    unseen = long.encode(pd.Series(["never seen"]))
    assert unseen.sum() == 1
    assert unseen[0, long.features.index("long=(other)")] == 1


def test_at_most_50_categories_are_kept(tmp_path):
    frame = pd.DataFrame({"c": [f"k{i % 80}" for i in range(800)], "label": ["a", "b"] * 400})
    (column,) = load_path(write(frame, tmp_path / "t.csv")).pipeline.inputs.columns
    assert len(column.categories) == 50
    assert column.other


def test_numbers_as_category_names_are_the_same_names_later(tmp_path):
    frame = pd.DataFrame({"c": ["1", "2", "x"] * 20, "v": range(100, 160), "label": ["a", "b"] * 30})
    frame["v"] = frame["v"] % 7
    pipeline = load_path(write(frame, tmp_path / "t.csv")).pipeline
    later = write(pd.DataFrame({"c": [1, None, 2], "v": [0, 1, 2]}), tmp_path / "new.csv")
    categories = pipeline.encode(later)[1][
        :, [i for i, f in enumerate(pipeline.inputs.features) if "c=" in f]
    ]
    assert categories.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_few_odd_marks_in_numbers_count_as_missing_and_new_ones_are_refused(tmp_path):
    values = [str(v) for v in np.random.default_rng(0).normal(size=100)]
    values[17] = values[40] = "?"
    frame = pd.DataFrame({"x": values, "label": ["a", "b"] * 50})
    bundle = load_path(write(frame, tmp_path / "t.csv"))
    assert heard(bundle, "'x' is numeric", "'?' count as missing")
    encode = bundle.pipeline.inputs.encode_frame
    assert torch.equal(encode(pd.DataFrame({"x": ["?"]})), encode(pd.DataFrame({"x": [None]})))
    with pytest.raises(DataError, match=r"'x' is numeric, but not in row 2 \('high'\)"):
        encode(pd.DataFrame({"x": ["1.5", "high"]}))


def test_infinite_features_count_as_missing(tmp_path):
    frame = pd.DataFrame({"x": [1.0, 2, np.inf, 4] * 10, "label": ["a", "b"] * 20})
    bundle = load_path(write(frame, tmp_path / "t.csv"))
    assert heard(bundle, "Missing values in 'x' (10)")
    assert torch.isfinite(bundle.train.inputs).all()


def test_dates_that_are_none_are_refused_when_predicting(mixed, tmp_path):
    pipeline = load_path(write(mixed, tmp_path / "mixed.csv")).pipeline
    mixed.loc[2, "joined"] = "yesterday"
    with pytest.raises(DataError, match=r"'joined' holds dates, but not in row 3 \('yesterday'\)"):
        pipeline.encode(write(mixed, tmp_path / "new.csv"))
    mixed.loc[2, "joined"] = None
    assert torch.isfinite(pipeline.encode(write(mixed, tmp_path / "new.csv"))[1]).all()


def test_types_of_parquet(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "flag": rng.random(40) < 0.5,
            "grade": pd.Categorical(rng.choice(["A", "B"], 40)),
            "when": pd.Timestamp("2024-01-01", tz="Asia/Tokyo")
            + pd.to_timedelta(rng.integers(0, 99, 40), "D"),
            "took": pd.to_timedelta(rng.integers(1, 99, 40), "s"),
            "count": pd.array(rng.integers(0, 9, 40), dtype="Int64"),
            "nested": [[1, 2]] * 40,
            "y": rng.choice([True, False], 40),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    bundle = load_path(tmp_path / "t.parquet")
    assert bundle.classes == ("False", "True")
    assert [column.kind for column in bundle.pipeline.inputs.columns] == [
        "number", "category", "date", "number", "number",
    ]  # fmt: skip
    assert heard(bundle, "Left out", "'nested' (nested values)")
    assert torch.isfinite(bundle.train.inputs).all()


def test_a_missing_target_is_refused_with_its_rows_or_left_out(tmp_path):
    frame = iris()
    frame.loc[[1, 7, 149], "species"] = None
    path = write(frame, tmp_path / "iris.csv")
    with pytest.raises(DataError, match=r"'species' is missing in 3 of 150 rows: row 2, 8 and 150"):
        load_path(path)
    bundle = load_path(path, on_bad="skip")
    assert len(bundle.train) + len(bundle.valid) == 147
    assert heard(bundle, "3 rows without a target left out")
    assert "row 2" not in bundle.valid_names


def test_infinite_targets_are_refused(tmp_path):
    frame = pd.DataFrame({"x": np.arange(30.0) ** 1.5, "y": [0.5, np.inf, 2.25] * 10})
    with pytest.raises(DataError, match="'y' is missing in 10 of 30 rows: row 2, 5, 8, 11, 14 and 5 more"):
        load_path(write(frame, tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3,4,5\n", "cannot be read as a table"),
        ("a,b,a\n1,2,3\n", None),
        ("a, b,b \n1,2,3\n", "several columns named b"),
        ("x\n1\n2\n", "only the column 'x'"),
        ("a,y\n1,p\n1,q\n1,p\n1,q\n", r"No column is left to learn from: 'a' \(the same everywhere\)"),
        ("a,y\n1,p\n2,p\n", "only one class, 'p'"),
        ("a,y\n1,2.5\n2,2.5\n3,2.5\n", "'y' is 2.5 in every training sample"),
    ],
)
def test_broken_tables_get_a_clear_error(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_path(tmp_path / "t.csv")


def test_other_bytes_get_a_clear_error(tmp_path):
    (tmp_path / "t.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        load_path(tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_path(tmp_path / "t.parquet")
    (tmp_path / "t.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read as a table"):
        load_path(tmp_path / "t.csv.gz")


def test_semicolons_and_decimal_commas_are_recognised(tmp_path):
    write(iris(), tmp_path / "iris.csv", sep=";", decimal=",")
    bundle = load_path(tmp_path / "iris.csv")
    assert bundle.train.inputs.shape[1] == 4
    assert heard(bundle, "separated by ';'", "decimals have a comma")
    assert torch.equal(bundle.train.inputs, load_path(write(iris(), tmp_path / "plain.csv")).train.inputs)


def test_a_missing_header_is_recognised(tmp_path):
    iris().assign(species=lambda f: f["species"].str.len()).to_csv(
        tmp_path / "t.csv", index=False, header=False
    )
    bundle = load_path(tmp_path / "t.csv")
    assert len(bundle.train) + len(bundle.valid) == 150
    assert bundle.target == "column_5"
    assert heard(bundle, "no header")


def test_every_value_different_is_no_class(tmp_path):
    frame = pd.DataFrame(
        {"x": np.random.default_rng(0).normal(size=50), "name": [f"n{i}" for i in range(50)]}
    )
    with pytest.raises(DataError, match="50 different values for 50 samples"):
        load_path(write(frame, tmp_path / "t.csv"))


def test_imbalance_is_said(tmp_path):
    frame = pd.DataFrame(
        {"x": np.random.default_rng(0).normal(size=100), "y": ["rare"] * 5 + ["common"] * 95}
    )
    bundle = load_path(write(frame, tmp_path / "t.csv"))
    assert heard(bundle, "Imbalanced: 95 of 'common', 5 of 'rare'", "95 %")
    assert bundle.valid.targets.bincount().tolist() == [19, 1]


def test_numbers_too_large_to_average_are_refused(tmp_path):
    frame = pd.DataFrame({"x": [1e300, -1e300, 1e305, 3.5] * 5, "y": ["a", "b"] * 10})
    with pytest.raises(DataError, match=r"'x' holds numbers up to .*, too large to average"):
        load_path(write(frame, tmp_path / "t.csv"))
