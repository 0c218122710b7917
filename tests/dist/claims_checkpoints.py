"""Claims about torch.distributed.checkpoint: saved on two ranks, loaded on another number, and on they go."""

import functools

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from tests.dist.claims_models import assert_trained_alike, make_model, optimizer_of, sharded, train
from tests.dist.ranks import World, claim

SAVED = [
    ("AdamW", {"lr": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1}),
    ("NAdam", {"lr": 0.01}),
    ("LAMB", {"lr": 0.05, "variant": "nvlamb", "weight_decay": 0.1}),
    ("ScheduleFreeAdamW", {"lr": 0.01}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5}),
    ("Adafactor", {"lr": 0.01}),
    ("Prodigy", {"slice_p": 3, "d0": 0.01}),
    ("Muon", {"lr": 0.02}),
    # The larger factor of a rectangle has a null space at first, whose basis is anybody's choice.
    ("SOAP", {"lr": 0.01, "precondition_frequency": 2, "max_precond_dim": 6}),
    ("Shampoo", {"lr": 0.01, "precondition_frequency": 2, "start_preconditioning_step": 2}),
]
BEFORE, AFTER = 3, 3
# Numbers of a tensor, and what is small beside it: whole on every rank.
PLAIN = ("step", "mu_product", "row_var", "col_var", "s", "p0", "GG", "Q", "factors", "roots")


def rows(world):
    part = 12 // world.size
    return slice(part * world.rank, part * world.rank + part)


def make(world, name, options):
    model = sharded(init_device_mesh("cpu", (world.size,)))
    return model, optimizer_of(name, options, model)


def label(name, options):
    return f"{name} {' '.join(sorted(options))}"


@claim(2)
def a_checkpoint_is_saved_by_two_ranks(world: World):
    for name, options in SAVED:
        model, optimizer = make(world, name, options)
        train(model, optimizer, rows(world), steps=BEFORE)
        found = get_optimizer_state_dict(model, optimizer)
        dcp.save(
            {"model": get_model_state_dict(model), "optimizer": found},
            checkpoint_id=str(world.folder / label(name, options)),
        )
        for states in found["state"].values():
            for key, value in states.items():
                assert isinstance(value, DTensor) is (key not in PLAIN), key


@functools.cache
def without_a_break(case):
    """The model trained in one process: computed before the ranks are forked."""
    model = make_model()
    optimizer = optimizer_of(*SAVED[case], model)
    train(model, optimizer, steps=BEFORE)
    train(model, optimizer, steps=AFTER)
    return model


def prepare():
    """Compute what every rank compares with; their kernels come along."""
    for case in range(len(SAVED)):
        without_a_break(case)


def goes_on(world, cases):
    for case in cases:
        name, options = SAVED[case]
        model, optimizer = make(world, name, options)
        found = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, optimizer),
        }
        dcp.load(found, checkpoint_id=str(world.folder / label(name, options)))
        set_model_state_dict(model, found["model"])
        set_optimizer_state_dict(model, optimizer, found["optimizer"])
        train(model, optimizer, rows(world), steps=AFTER)
        assert_trained_alike(model, without_a_break(case), name)


@claim(1)
def one_rank_goes_on_from_the_checkpoint_of_two(world: World):
    goes_on(world, range(len(SAVED)))


@claim(3)
def three_ranks_go_on_from_the_checkpoint_of_two(world: World):
    goes_on(world, (0, 1))


@claim(4)
def four_ranks_go_on_from_the_checkpoint_of_two(world: World):
    goes_on(world, (0, 3, 4, 5, 7, 8, 9, 10, 11))


@claim(2)
def a_whole_checkpoint_goes_to_the_parts_and_back(world: World):
    """Gathered on one rank as plain tensors, as for a single process; and from there into parts again."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=False)
    for name, kw in SAVED[:1] + SAVED[3:6] + SAVED[7:]:
        reference = make_model()
        reference_optimizer = optimizer_of(name, kw, reference)
        train(reference, reference_optimizer, steps=BEFORE)
        # By position, from a plain optimizer: every rank has the whole checkpoint and cuts it.
        model, optimizer = make(world, name, kw)
        model.load_state_dict(cut_weights(model, reference))
        optimizer.load_state_dict(reference_optimizer.state_dict())
        train(model, optimizer, rows(world), steps=AFTER)
        # And back: gathered, into a plain optimizer.
        other = make_model()
        weights = get_model_state_dict(model, options=options)
        gathered = get_optimizer_state_dict(model, optimizer, options=options)
        train(reference, reference_optimizer, steps=AFTER)
        assert_trained_alike(model, reference, name)
        other.load_state_dict(weights)
        other_optimizer = optimizer_of(name, kw, other)
        set_optimizer_state_dict(other, other_optimizer, gathered)
        train(other, other_optimizer, steps=1)
        train(reference, reference_optimizer, steps=1)
        assert_trained_alike(other, reference, name)


def cut_weights(model, reference):
    from torch.distributed.tensor import distribute_tensor

    plain = reference.state_dict()
    return {
        key: distribute_tensor(plain[key], p.device_mesh, p.placements, src_data_rank=None)
        for key, p in model.state_dict().items()
    }
