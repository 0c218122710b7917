"""Claims about ranges and alternatives as they are written on the command line."""

import pytest

from kudari.errors import ArgumentError
from kudari.tune.space import Between, OneOf, is_space, read_space


@pytest.mark.parametrize(
    ("word", "choices"),
    [
        ("lr=1e-4..1e-2", Between(1e-4, 1e-2, whole=False, log=True)),
        ("lr=0.01..0.05", Between(0.01, 0.05, whole=False, log=False)),
        ("model.width=8..64", Between(8, 64, whole=True, log=False)),
        ("batch_size=8..512", Between(8, 512, whole=True, log=True)),
        ("model.dropout=0..0.5", Between(0, 0.5, whole=False, log=False)),
        ("model.width=64,128,256", OneOf(("64", "128", "256"))),
        ("optimizer=adamw,lion", OneOf(("adamw", "lion"))),
        ("model.widths=[64],[64,64]", OneOf(("[64]", "[64,64]"))),
        ("schedule=cosine(1, 0.1),linear", OneOf(("cosine(1, 0.1)", "linear"))),
    ],
)
def test_what_is_searched_is_read_as_written(word, choices):
    assert is_space(word)
    assert read_space(word) == (word.partition("=")[0], choices)


@pytest.mark.parametrize(
    "word",
    ["digits", "my.yaml", "epochs=3", "data=../photos", "data=./a..b", "model.widths=[64,128]", "lr=1e-3"],
)
def test_single_values_and_paths_are_no_search(word):
    assert not is_space(word)


@pytest.mark.parametrize("word", ["lr=1e-2..1e-4", "lr=a..b", "lr=1..1", "lr=1..nan"])
def test_ranges_without_a_rising_pair_of_numbers_are_refused(word):
    with pytest.raises(ArgumentError, match="lr="):
        read_space(word)
