"""Batches are a pure function of (seed, step)."""

import itertools
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import kudari.data.loader as loader_module
from kudari.data import BatchLoader, TensorData, compose, derive_seed, random_flip, random_shift
from kudari.errors import ArgumentError, DataError


def numbered(samples: int) -> TensorData:
    """Samples that know their own number."""
    return TensorData(torch.arange(samples, dtype=torch.float32)[:, None], torch.arange(samples))


def pictures(samples: int, channels: int = 1, side: int = 8) -> TensorData:
    generator = torch.Generator().manual_seed(3)
    return TensorData(torch.rand(samples, channels, side, side, generator=generator), torch.arange(samples))


def rows(batches):
    return [y.tolist() for _, y in batches]


def take(loader, start, number):
    return list(itertools.islice(loader.iterate(start), number))


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    start=st.integers(0, 30),
    seed=st.integers(0, 5),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    augmented=st.booleans(),
)
def test_iterate_from_a_step_is_the_tail_of_the_whole(
    samples, batch_size, start, seed, shuffle, drop_last, augmented
):
    if drop_last and batch_size > samples:
        batch_size = samples
    loader = BatchLoader(
        pictures(samples),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        augment=random_shift(2) if augmented else None,
    )
    whole, tail = take(loader, 0, start + 12)[start:], take(loader, start, 12)
    for step, (a, b) in enumerate(zip(whole, tail, strict=True), start=start):
        single = loader.batch(step)
        for one, two, three in zip(a, b, single, strict=True):
            assert torch.equal(one, two)
            assert torch.equal(one, three)


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_epoch_holds_every_sample_once(drop_last):
    loader = BatchLoader(numbered(23), 5, seed=1, drop_last=drop_last)
    assert loader.steps_per_epoch == len(loader) == (4 if drop_last else 5)
    for epoch in range(3):
        batches = rows(take(loader, epoch * loader.steps_per_epoch, loader.steps_per_epoch))
        seen = list(itertools.chain.from_iterable(batches))
        assert len(seen) == len(set(seen)) == (20 if drop_last else 23)


def test_inputs_and_targets_stay_together():
    for x, y in take(BatchLoader(numbered(23), 5, seed=1), 0, 12):
        assert torch.equal(x[:, 0].long(), y)


def test_order_differs_between_epochs_and_seeds_but_not_between_objects():
    first, again, other = (BatchLoader(numbered(50), 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.order(4), again.order(4))
    assert not torch.equal(first.order(4), first.order(5))
    assert not torch.equal(first.order(4), other.order(4))
    assert not torch.equal(first.order(1), other.order(0))  # what seed + epoch would give


def test_order_is_the_same_on_every_machine():
    # Written down once: a change of these numbers breaks the resuming of older runs.
    assert derive_seed("order", 0, 0) == 5932176926520365375
    assert BatchLoader(numbered(8), 4, seed=0).order(0).tolist() == [6, 1, 5, 4, 3, 7, 2, 0]


def test_seeds_do_not_depend_on_the_process():
    code = "from kudari.data import derive_seed; print(derive_seed('order', 0, 0))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == derive_seed("order", 0, 0)


def test_global_random_state_is_neither_read_nor_changed():
    loader = BatchLoader(pictures(20), 4, augment=random_shift(1))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = take(loader, 0, 7)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = take(loader, 0, 7)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_large_inputs_are_gathered_per_batch_in_the_same_order(monkeypatch):
    loader = BatchLoader(numbered(23), 5, seed=1)
    copied = take(loader, 2, 10)
    monkeypatch.setattr(loader_module, "EPOCH_COPY_LIMIT_BYTES", 0)
    gathered = take(loader, 2, 10)
    assert rows(copied) == rows(gathered)
    # a gathered batch owns its few rows; a view would hold the whole epoch
    assert gathered[0][0].untyped_storage().nbytes() == 5 * 4
    assert copied[0][0].untyped_storage().nbytes() == 13 * 4


def test_without_shuffling_batches_are_views_in_the_order_of_the_data():
    data = numbered(7)
    batches = take(BatchLoader(data, 3, shuffle=False), 0, 3)
    assert rows(batches) == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches[0][0].data_ptr() == data.inputs.data_ptr()


def test_kept_batches_survive_later_epochs():
    loader = BatchLoader(numbered(10), 5, seed=1)
    kept = take(loader, 0, 8)
    assert rows(kept) == [loader.batch(step)[1].tolist() for step in range(8)]


def test_each_pass_is_the_next_epoch():
    loader = BatchLoader(numbered(10), 4, seed=1)
    assert rows(loader) + rows(loader) == rows(take(loader, 0, 6))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"batch_size": 0}, ArgumentError),
        ({"batch_size": 4, "seed": -1}, ArgumentError),
        ({"batch_size": 11, "drop_last": True}, DataError),
    ],
)
def test_impossible_loaders_are_refused(arguments, error):
    with pytest.raises(error):
        BatchLoader(numbered(10), **arguments)


def test_no_samples_and_negative_steps_are_refused():
    with pytest.raises(DataError, match="no samples"):
        BatchLoader(numbered(0), 4)
    with pytest.raises(ArgumentError, match="step=-1"):
        BatchLoader(numbered(10), 4).iterate(-1)
    with pytest.raises(ArgumentError, match="step=-1"):
        BatchLoader(numbered(10), 4).batch(-1)


def test_unequal_lengths_are_refused():
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        TensorData(torch.zeros(3, 2), torch.zeros(2))


@pytest.mark.parametrize("channels", [1, 3])
def test_shift_equals_a_crop_of_the_padded_picture(channels):
    data = pictures(200, channels)
    x, y = data.inputs, data.targets
    shifted, same = random_shift(2)(x, y, torch.Generator().manual_seed(0))
    assert torch.equal(same, y)
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    crops = {(dy, dx): padded[:, :, dy : dy + 8, dx : dx + 8] for dy in range(5) for dx in range(5)}
    used = set()
    for sample in range(200):
        matching = [where for where, crop in crops.items() if torch.equal(crop[sample], shifted[sample])]
        assert len(matching) == 1
        used.add(matching[0])
    assert used == set(crops)


def test_flip_mirrors_about_half_and_leaves_the_data_alone():
    data = pictures(400, 3)
    before = data.inputs.clone()
    flipped, _ = random_flip()(data.inputs, data.targets, torch.Generator().manual_seed(0))
    mirrored = (flipped == before.flip(-1)).flatten(1).all(1)
    untouched = (flipped == before).flatten(1).all(1)
    assert (mirrored ^ untouched).all()
    # binomial(400, 1/2): six standard deviations are 60
    assert abs(int(mirrored.sum()) - 200) < 60
    assert torch.equal(data.inputs, before)


def test_composed_augmentations_apply_in_order():
    def double(x, y, generator):
        return 2 * x, y

    def add_one(x, y, generator):
        return x + 1, y

    x, _ = compose(double, add_one)(torch.ones(1), torch.ones(1), torch.Generator())
    assert x.item() == 3


def test_augmentations_of_pictures_refuse_tables():
    for augment in (random_shift(1), random_flip()):
        with pytest.raises(ArgumentError, match=r"\(4, 3\)"):
            augment(torch.zeros(4, 3), torch.zeros(4), torch.Generator())
    with pytest.raises(ArgumentError, match="pixels=0"):
        random_shift(0)
