"""Stages on several matrices: side by side they do what they do one after another."""

import threading

import pytest
import torch

import kudari.optim
from kudari.compile.stage import Stage, Work, one_by_one
from kudari.optim import side_by_side


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads, and matrices of a size to try things on are worth them."""
    before = torch.get_num_threads()
    monkeypatch.setattr(side_by_side, "WORTH", 1)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def seen(function=lambda x: 2 * x):
    """A stage, and what it has noted: threads, and how many of them torch would use there."""
    notes = []

    def run(x):
        notes.append((threading.current_thread().name, torch.get_num_threads()))
        return function(x)

    return Stage("tried", one_by_one(run), values=("x",)), notes


def run(stage, tensors):
    works = [Work((x,), ()) for x in tensors]
    return [one for (one,) in side_by_side.run_side_by_side(stage, works, tensors)]


def matrices(*sides):
    return [torch.full((n, n), float(i)) for i, n in enumerate(sides)]


@pytest.mark.usefixtures("two_threads")
def test_each_thread_takes_some_and_works_alone():
    stage, notes = seen()
    tensors = matrices(8, 8, 8, 8)
    assert all(map(torch.equal, run(stage, tensors), [2 * x for x in tensors]))
    assert len(notes) == 4
    assert {count for _, count in notes} == {1}
    assert all("kudari" in name for name, _ in notes)


@pytest.mark.usefixtures("two_threads")
def test_threads_outside_keep_their_number():
    run(seen()[0], matrices(8, 8))
    found = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [2]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("sides", [(8,), (8, 8, 8), (8, 1, 1)], ids=str)
def test_what_cannot_be_shared_out_evenly_is_left_to_torchs_own_threads(sides):
    stage, notes = seen()
    run(stage, matrices(*sides))
    assert {count for _, count in notes} == {2}


def test_small_work_stays_where_it_is():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stage, notes = seen()
        run(stage, matrices(64, 64))
    finally:
        torch.set_num_threads(before)
    assert {name for name, _ in notes} == {threading.current_thread().name}


@pytest.mark.usefixtures("two_threads")
def test_an_error_comes_when_all_have_ended():
    done = []

    def fail(x):
        if x[0, 0] == 0:
            raise ArithmeticError("no root")
        threading.Event().wait(0.05)
        done.append(float(x[0, 0]))
        return x

    with pytest.raises(ArithmeticError, match="no root"):
        run(seen(fail)[0], matrices(8, 8))
    assert done == [1.0]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["SOAP", "Shampoo", "Muon"])
@pytest.mark.parametrize("inference", [False, True], ids=["", "inference"])
def test_steps_are_those_of_one_thread(name, inference, monkeypatch):
    def train():
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode(inference):
            some = [torch.randn(12, 20, generator=generator, dtype=torch.float64) for _ in range(4)]
            params = [torch.nn.Parameter(x) for x in some]
            optimizer = kudari.optim.get(name)(params)
            for _ in range(12):
                for p in params:
                    p.grad = torch.randn(12, 20, generator=generator, dtype=torch.float64)
                optimizer.step()
        return params

    together = train()
    monkeypatch.setattr(side_by_side, "WORTH", 1 << 60)
    alone = train()
    # Products of this size have the same bits on one thread and on two.
    assert all(map(torch.equal, together, alone))
