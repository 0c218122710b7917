"""Accelerate's prepare() around our optimizer and our scheduler."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.clients.common import (
    BATCH,
    EPOCHS,
    STEPS,
    Ours,
    Torchs,
    data,
    model,
    plain_schedule_free,
    rates,
    same,
    schedule_free,
    watch_rates,
    weights,
)  # fmt: skip

accelerate = pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def fresh():
    from accelerate.state import AcceleratorState, GradientState, PartialState

    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def run(side, **kw):
    accelerator = accelerate.Accelerator(cpu=True, **kw)
    module = model()
    optimizer = side.optimizer(module.parameters())
    seen, loader = watch_rates(optimizer), DataLoader(TensorDataset(*data()), batch_size=BATCH)
    steps = STEPS // kw.get("gradient_accumulation_steps", 1)
    module, optimizer, loader, scheduler = accelerator.prepare(
        module, optimizer, loader, side.scheduler(optimizer, steps)
    )
    for _ in range(EPOCHS):
        for x, y in loader:
            with accelerator.accumulate(module):
                loss = torch.nn.functional.cross_entropy(module(x), y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    return weights(accelerator.unwrap_model(module)), seen


@pytest.mark.parametrize(
    "kw", [{}, {"gradient_accumulation_steps": 2}, {"mixed_precision": "bf16"}], ids=lambda kw: str(kw)
)
def test_prepared_it_ends_where_torchs_does_and_the_schedule_steps_once_a_step(kw):
    ours, seen = run(Ours, **kw)
    theirs, _ = run(Torchs, **kw)
    same(ours, theirs)
    assert seen == pytest.approx(rates(STEPS // kw.get("gradient_accumulation_steps", 1)))


def test_a_saved_state_goes_on_bit_for_bit(tmp_path):
    x, y = data()

    def prepared():
        accelerator = accelerate.Accelerator(cpu=True)
        module = model()
        optimizer = Ours.optimizer(module.parameters())
        return accelerator, *accelerator.prepare(module, optimizer, Ours.scheduler(optimizer))

    def walk(accelerator, module, optimizer, scheduler):
        for _ in range(4):
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.cross_entropy(module(x), y))
            optimizer.step()
            scheduler.step()
        return weights(module)

    first = prepared()
    walk(*first)
    first[0].save_state(tmp_path / "state")
    want = walk(*first)
    second = prepared()
    second[0].load_state(tmp_path / "state")
    assert all(torch.equal(a, b) for a, b in zip(want, walk(*second), strict=True))


def test_schedule_free_switches_through_the_wrapper():
    accelerator = accelerate.Accelerator(cpu=True)
    module = model()
    loader = DataLoader(TensorDataset(*data()), batch_size=BATCH)
    module, optimizer, loader = accelerator.prepare(module, schedule_free(module.parameters()), loader)
    optimizer.train()
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.cross_entropy(module(x), y))
            optimizer.step()
    optimizer.eval()
    same(weights(module), plain_schedule_free())
