"""Claims about races, searches and batch sizes: fair, resumable, nothing left behind."""

import pytest
import torch

from kudari import tune
from kudari.errors import ArgumentError, MissingExtraError
from kudari.train.options import Options
from kudari.tune.batch_size import batch
from kudari.tune.race import run_race
from kudari.tune.search import run_search
from kudari.tune.space import read_space
from kudari.tune.trial import Trials, open_trials
from tests.cpu.test_tune_lr import bits, same
from tests.cpu.train_runs import network, points

pytestmark = pytest.mark.cpu

RUN = {"steps": 130, "batch_size": 16}


def race(folder, names=("adamw", "lion"), seeds=2, said=None, **options):
    said = [] if said is None else said
    return tune.compare(
        names, lambda seed: network(seed=seed), "cross_entropy", points(200), points(60, seed=1),
        seeds=seeds, folder=folder, say=said.append, **{**RUN, **options},
    )  # fmt: skip


def test_contenders_get_the_same_budget_seeds_and_a_rate_of_their_own(tmp_path):
    found = race(tmp_path)
    assert {(e.optimizer, e.seed) for e in found.entries} == {
        (o, s) for o in ("adamw", "lion") for s in (0, 1)
    }
    assert {e.steps for e in found.entries} == {130}
    assert len({t.lr for t in found.tuned}) == 2
    adamw, lion = (next(s for s in found.standings() if s.optimizer == n) for n in ("adamw", "lion"))
    assert adamw.state_bytes > 1.9 * lion.state_bytes  # two averages and one
    assert found.standings()[0].mean["accuracy"] > 0.6


def test_a_race_that_was_cut_goes_on_and_does_nothing_twice(tmp_path):
    whole = race(tmp_path / "whole")
    said: list[str] = []

    def cut(text):
        said.append(text)
        if "seed 1" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune.compare(["adamw", "lion"], lambda seed: network(seed=seed), "cross_entropy", points(200),
                     points(60, seed=1), seeds=2, folder=tmp_path / "cut", say=cut, **RUN)  # fmt: skip
    rest: list[str] = []
    again = race(tmp_path / "cut", said=rest)
    assert len(rest) == 1 and rest[0].startswith("lion, seed 1")
    assert [(e.optimizer, e.seed, e.values) for e in again.entries] == [
        (e.optimizer, e.seed, e.values) for e in whole.entries
    ]


def test_a_folder_of_another_race_is_refused(tmp_path):
    race(tmp_path, seeds=1)
    with pytest.raises(ArgumentError, match="another race: steps was 130, now 140"):
        race(tmp_path, seeds=1, steps=140)


@pytest.mark.parametrize("loss_tells", ["the same", "the opposite"])
def test_the_worst_are_stopped_from_the_second_seed_on(loss_tells, tmp_path, monkeypatch):
    """Four contenders, of which one is given a rate at which it learns nothing; accuracy ranks them."""
    from kudari.tune import race as room
    from kudari.tune.results import Tuned

    rates = {"adamw": 1e-2, "lion": 3e-3, "sgd": 1e-7, "adam": 1e-2}
    monkeypatch.setattr(room, "_tuned", lambda study, name, *rest: Tuned(name, rates[name], "high", "", 0.0))
    if loss_tells == "the opposite":
        validate = Trials.validate
        monkeypatch.setattr(Trials, "validate", lambda self: {**(v := validate(self)), "loss": v["accuracy"]})
    found = race(tmp_path, names=tuple(rates))
    status = {(e.optimizer, e.seed): e.status for e in found.entries}
    assert status["sgd", 0] == "finished"
    assert status["sgd", 1] == "stopped"
    assert status["adamw", 1] == "finished"
    assert found.standings()[-1].optimizer == "sgd"
    assert next(e for e in found.entries if e.status == "stopped").steps < 130


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["adamw"], "two optimizers"),
        (["adamw", "AdamW"], "twice"),
        (["adamw", "loin"], "Did you mean 'lion'"),
    ],
)
def test_a_race_needs_two_known_contenders(tmp_path, names, words):
    with pytest.raises(ArgumentError, match=words):
        race(tmp_path, names=names)


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"kudari\[tune\]"):
        run_race(["adamw", "lion"], None, (0,), tmp_path)


def searched(folder, attempts, said=None):
    from contextlib import contextmanager

    @contextmanager
    def opener(values):
        shaped = Options(loss="cross_entropy", optimizer=values["optimizer"], lr=float(values["lr"]), **RUN)
        with open_trials(network(), points(200), points(60, seed=1), shaped) as trials:
            yield trials

    space = dict(map(read_space, ("lr=1e-5..1e-1", "optimizer=adamw,lion")))
    return run_search(space, opener, folder, attempts=attempts, say=(said if said is not None else []).append)


def test_a_search_finds_what_matters_and_goes_on_as_if_never_cut(tmp_path):
    whole = searched(tmp_path / "whole", 6)
    searched(tmp_path / "cut", 3)
    said: list[str] = []
    again = searched(tmp_path / "cut", 6, said)
    assert len(said) == 3
    assert [a.values for a in again.attempts] == [a.values for a in whole.attempts]
    assert [a.value for a in again.attempts] == [a.value for a in whole.attempts]
    assert whole.best().value == max(a.value for a in whole.attempts if a.value is not None)
    assert set(whole.importance) <= {"lr", "optimizer"}


def test_batch_sizes_double_to_the_data_and_nothing_is_left_behind():
    model = network()
    before = bits(model)
    found = batch(model, "cross_entropy", points(50), steps=1)
    assert [t.batch_size for t in found.tried] == [2, 4, 8, 16, 32, 50]
    assert (found.largest, found.limit) == (50, "the data")
    assert found.fastest in [t.batch_size for t in found.tried]
    assert same(bits(model), before)


def test_a_batch_that_would_not_fit_is_never_tried():
    found = batch(network(), "cross_entropy", points(5000), steps=1, memory_bytes=40_000)
    assert found.limit.startswith("memory: ")
    assert found.largest == found.tried[-1].batch_size < 5000
    assert all(t.kept_bytes <= 40_000 for t in found.tried)


def test_running_out_of_memory_while_trying_is_an_answer(monkeypatch):
    from kudari.tune import batch_size

    whole = batch_size._try

    def limited(model, data, options, steps):
        if options.batch_size > 8:
            raise torch.OutOfMemoryError("no more")
        return whole(model, data, options, steps)

    monkeypatch.setattr(batch_size, "_try", limited)
    found = batch(network(), "cross_entropy", points(50), steps=1)
    assert (found.largest, found.limit) == (8, "memory: 16 samples do not fit")


def test_a_loader_has_its_own_batches():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*points()), 16)
    with pytest.raises(ArgumentError, match="batches of its own"):
        batch(network(), "cross_entropy", loader)


def test_a_memory_that_holds_no_batch_at_all_is_said():
    with pytest.raises(
        ArgumentError, match=r"smallest batch, of 2, .* needs 0\.0\d+ MiB of 9.5e-05 MiB allowed"
    ):
        batch(network(), "cross_entropy", points(50), steps=1, memory_bytes=100)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 3}, "tune.batch: 'batch_size' cannot be set: it is tried"),
        ({"epochs": 3}, "tune.batch: 'epochs' cannot be set"),
        ({"acumulate": 3}, "tune.batch: 'acumulate' is not an argument. Did you mean 'accumulate'"),
        ({"most": 0}, "most=0 is below 1"),
        ({"memory_bytes": -1}, "memory_bytes=-1 is below 1"),
    ],
)
def test_what_a_search_for_a_batch_cannot_take_is_named(options, words):
    with pytest.raises(ArgumentError, match=words):
        batch(network(), "cross_entropy", points(50), steps=1, **options)


def test_what_a_race_cannot_take_is_named(tmp_path):
    for options, words in (
        ({"stepz": 3}, "tune.compare: 'stepz' is not an argument. Did you mean 'steps'"),
        ({"lr": 0.1}, "tune.compare: 'lr' cannot be set"),
    ):
        with pytest.raises(ArgumentError, match=words):
            race(tmp_path, **options)
    with pytest.raises(ArgumentError, match=r"model is a Sequential, not a function of the seed"):
        tune.compare(["adamw", "lion"], network(), "cross_entropy", points(200), points(60), folder=tmp_path)
    with pytest.raises(ArgumentError, match="lion is given twice"):
        race(tmp_path, names="lion, lion")
    assert not list(tmp_path.iterdir())
