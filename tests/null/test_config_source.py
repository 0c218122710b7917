"""Claims about reading YAML and key=value text: the dialect, the places, and what is refused."""

import math

import pytest

from kudari.cli._config.source import COMMAND_LINE, override, parse_value, read_file, read_text
from kudari.errors import ConfigError


def problems(text: str) -> list[str]:
    try:
        return [str(p) for p in read_text(text, "f.yaml").problems]
    except ConfigError as error:
        return [str(p) for p in error.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E+2", 100.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("-2", -2),
        ("012", 12),
        ("0x10", 16),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("'1e-3'", "1e-3"),
        ("[64, 32]", [64, 32]),
        ("{a: 1}", {"a": 1}),
        ("warmup('5%') >> cosine(floor=0.1)", "warmup('5%') >> cosine(floor=0.1)"),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
    ],
)
def test_words_mean_what_yaml_1_2_says(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse_value(".nan"))


def test_every_key_knows_its_line():
    source = read_text("a: 1\n\nb:\n  c: 2\n  d: [3,\n      4]\n", "f.yaml")
    assert source.places[("a",)] == "f.yaml:1"
    assert source.places[("b", "c")] == "f.yaml:4"
    assert source.places[("b", "d", 1)] == "f.yaml:6"
    assert source.place(("b", "unknown")) == "f.yaml:3"


def test_words_as_keys_stay_words():
    assert set(read_text("on: 1\nno: 2\n3: x\n", "f.yaml").values) == {"on", "no", "3"}


def test_a_key_written_twice_is_refused_with_both_places():
    assert problems("seed: 1\nepochs: 2\nseed: 3\n") == [
        "f.yaml:3: seed: is written twice, first at f.yaml:1. Keep one of them."
    ]


def test_tags_are_refused_and_never_run():
    (problem,) = problems("a: !!python/object/apply:os.getcwd []\n")
    assert problem.startswith("f.yaml:1: a: ")
    (problem,) = problems("a: !!python/name:os.system x\n")
    assert "python/name" in problem
    (problem,) = problems("a: !!int many\n")
    assert "write the plain value" in problem


def test_aliases_are_refused():
    (problem,) = problems("a: &x [1]\nb: *x\n")
    assert problem.startswith("f.yaml:2: b: aliases")
    assert "aliases" in problems("a: &x [*x]\n")[0]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1\n", "f.yaml:2", "not YAML"),
        ("\ta: 1\n", "f.yaml:1", "spaces"),
        ("a: *x\n", "f.yaml:1", "needs quotes"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2", "another document"),
        ("- 1\n", "f.yaml:1", "key: value"),
        ("just words\n", "f.yaml:1", "key: value"),
        ("a: \x01\n", "f.yaml", "not YAML"),
        ("a: b: c\n", "f.yaml:1", "not YAML"),
        ("? [1, 2]\n: 3\n", "f.yaml:1", "single word"),
    ],
)
def test_text_that_is_not_a_configuration_is_refused_at_its_line(text, place, words):
    (problem,) = problems(text)
    assert problem.startswith(place + ":")
    assert words in problem


def test_an_empty_file_is_an_empty_configuration():
    assert read_text("# nothing\n", "f.yaml").values == {}


def test_a_missing_file_and_a_binary_file_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: \(file\): there is no such file"):
        read_file(tmp_path / "nothing.yaml")
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        read_file(tmp_path / "x.yaml")


def test_short_forms_fill_their_block():
    source = read_text("data: digits\noptimizer: lion\n", "f.yaml")
    assert source.values == {"data": {"path": "digits"}, "optimizer": {"name": "lion"}}
    assert source.places[("optimizer", "name")] == "f.yaml:2"


def test_an_assignment_replaces_the_value_and_its_place():
    source = override(read_text("optimizer:\n  lr: 1\n  name: sgd\n", "f.yaml"), ["optimizer.lr=1e-3"])
    assert source.values == {"optimizer": {"lr": 1e-3, "name": "sgd"}}
    assert source.places[("optimizer", "lr")] == COMMAND_LINE
    assert source.places[("optimizer", "name")] == "f.yaml:3"


def test_the_short_form_of_a_block_replaces_all_of_it():
    text = "optimizer: {name: sgd, momentum: 0.9}\n"
    assert override(read_text(text, "f"), ["optimizer=lion"]).values == {"optimizer": {"name": "lion"}}
    kept = override(read_text(text, "f"), ["optimizer.name=lion"]).values
    assert kept == {"optimizer": {"name": "lion", "momentum": 0.9}}


def test_the_learning_rate_needs_no_block_around_it():
    source = read_text("lr: 1e-3\noptimizer: lion\nweight_decay: 0", "f.yaml")
    assert source.values == {"optimizer": {"name": "lion", "lr": 1e-3, "weight_decay": 0}}
    assert source.place(("optimizer", "lr")) == "f.yaml:1"
    changed = override(source, ["lr=2e-3"])
    assert changed.values["optimizer"] == {"name": "lion", "lr": 2e-3, "weight_decay": 0}
    assert changed.place(("optimizer", "lr")) == COMMAND_LINE


def test_the_order_of_assignments_makes_no_difference():
    source = read_text("optimizer: {name: sgd, momentum: 0.9}", "f.yaml")
    for words in (["lr=1", "optimizer=lion"], ["optimizer=lion", "lr=1"]):
        assert override(source, words).values["optimizer"] == {"name": "lion", "lr": 1}


def test_a_learning_rate_in_both_places_is_refused_with_both():
    [problem] = problems("optimizer:\n  lr: 1\nlr: 2")
    assert problem == "f.yaml:3: lr: is written twice, also as optimizer.lr at f.yaml:2. Keep one of them."
    [problem] = override(read_text("", "f.yaml"), ["lr=1", "optimizer.lr=2"]).problems
    assert "optimizer.lr: is given twice" in str(problem)


def test_overriding_leaves_the_source_as_it_was():
    source = read_text("a: {b: [1]}\n", "f")
    override(source, ["a.b=2", "c=3"])
    assert source.values == {"a": {"b": [1]}}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["epochs"], "command line: epochs: is not understood"),
        (["=3"], "command line: =3: is not understood"),
        (["a=1", "a=2"], "command line: a: is given twice"),
        (["a=[1"], "command line: a: this is not YAML"),
        (["a=*x"], "command line: a: this is not YAML"),
    ],
)
def test_assignments_that_cannot_be_read_are_collected(words, text):
    (problem,) = override(read_text("", "f"), words).problems
    assert str(problem).startswith(text)
