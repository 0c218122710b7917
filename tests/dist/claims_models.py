"""Claims about models trained on several ranks, against the same training in one process."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import kudari.optim
from kudari.errors import UnsupportedError
from tests.cpu.optim.conftest import build
from tests.dist.claims_parts import NEAR, whole
from tests.dist.ranks import World, claim

TRAINED = [
    ("AdamW", {"lr": 0.01, "cautious": True}),
    ("LAMB", {"lr": 0.05, "variant": "nvlamb", "weight_decay": 0.1}),
    ("LARS", {"lr": 1.0}),
    ("StableAdamW", {"lr": 0.01}),
    ("Prodigy", {"lr": 1.0, "d0": 0.01}),
    ("Muon", {"lr": 0.02}),
    ("Adafactor", {"lr": 0.01}),
]


def make_model():
    """A block with a norm; the head has one row, so that a second rank holds none of it."""
    torch.manual_seed(7)
    layers = (nn.Linear(6, 9), nn.LayerNorm(9), nn.Tanh(), nn.Linear(9, 1))
    return nn.Sequential(*layers).double()


def batch(step):
    gen = torch.Generator().manual_seed(step)
    x = torch.randn(12, 6, dtype=torch.float64, generator=gen)
    return x, x.sum(1, keepdim=True).sin()


def optimizer_of(name, options, model):
    decayed, rest = kudari.optim.groups(model, weight_decay=0.05)
    keeps = name in ("LARS", "StableAdamW")
    options = {k: v for k, v in options.items() if k != "weight_decay"} if keeps else options
    return build(name, [decayed, rest], **options)


def train(model, optimizer, rows=slice(None), steps=4, clip=None):
    """Train; returns the norms of the gradients where they are clipped."""
    norms = []
    for step in range(steps):
        x, y = batch(step)
        optimizer.zero_grad()
        ((model(x[rows]) - y[rows]) ** 2).mean().backward()
        if clip is not None:
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
            norms.append(float(whole(norm)))
        optimizer.step()
    return norms


@functools.cache
def trained(case, clip=None):
    """The model trained in one process, and the norms: computed before the ranks are forked."""
    model = make_model()
    name, options = TRAINED[case]
    return model, train(model, optimizer_of(name, options, model), clip=clip)


def prepare():
    """Compute what every rank compares with; their kernels come along."""
    for case in range(len(TRAINED)):
        trained(case)
        trained(case, 0.1)


def assert_trained_alike(model, reference, label):
    start = torch.cat([p.detach().flatten() for p in make_model().parameters()])
    ours = torch.cat([whole(p).flatten() for p in model.parameters()]) - start
    expected = torch.cat([p.detach().flatten() for p in reference.parameters()]) - start
    assert (ours - expected).norm() <= NEAR.get(label, 1e-9) * expected.norm(), label
    assert expected.norm() > 1e-3, label


def sharded(mesh, **kw):
    model = make_model()
    fully_shard(model[0], mesh=mesh, **kw)
    fully_shard(model, mesh=mesh, **kw)
    return model


@claim(2)
def a_model_under_fully_shard_trains_as_in_one_process(world: World):
    mesh = init_device_mesh("cpu", (2,))
    half = slice(6 * world.rank, 6 * world.rank + 6)
    for case, (name, options) in enumerate(TRAINED):
        for clip in (None, 0.1):
            model, (reference, wanted) = sharded(mesh), trained(case, clip)
            norms = train(model, optimizer_of(name, options, model), half, clip=clip)
            assert_trained_alike(model, reference, name)
            assert torch.allclose(torch.tensor(norms), torch.tensor(wanted))


@claim(2)
def a_model_under_ddp_trains_as_in_one_process(world: World):
    half = slice(6 * world.rank, 6 * world.rank + 6)
    for case, (name, options) in enumerate(TRAINED):
        model, (reference, _) = nn.parallel.DistributedDataParallel(make_model()), trained(case)
        train(model, optimizer_of(name, options, model), half)
        assert_trained_alike(model, reference, name)


@claim(2)
def groups_are_the_same_for_a_sharded_model(world: World):
    found = kudari.optim.groups(sharded(init_device_mesh("cpu", (2,))), weight_decay=0.1)
    expected = kudari.optim.groups(make_model(), weight_decay=0.1)
    assert [g["param_names"] for g in found] == [g["param_names"] for g in expected]
    assert [g["weight_decay"] for g in found] == [0.1, 0.0]


@claim(2)
def a_grad_scaler_skips_on_all_ranks_and_unscales(world: World):
    reference, model = make_model(), sharded(init_device_mesh("cpu", (2,)))
    half = slice(6 * world.rank, 6 * world.rank + 6)
    options = {"lr": 0.05, "variant": "nvlamb"}
    train(reference, optimizer_of("LAMB", options, reference), steps=2)
    optimizer = optimizer_of("LAMB", options, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in (0, "overflow", 1):
        x, y = batch(0 if step == "overflow" else step)
        optimizer.zero_grad()
        scaler.scale(((model(x[half]) - y[half]) ** 2).mean()).backward()
        if step == "overflow" and world.rank == 1:
            model[0].weight.grad.to_local()[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**9
    assert_trained_alike(model, reference, "LAMB")


@claim(2)
def mixed_precision_keeps_master_weights_in_float32(world: World):
    """FSDP computes in bf16 and the optimizer sees float32 parameters and gradients."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = make_model().float()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)), mp_policy=policy)
    optimizer = kudari.optim.StableAdamW(model.parameters())
    before = [whole(p) for p in model.parameters()]
    model(batch(0)[0].float()).mean().backward()
    optimizer.step()
    for p, b in zip(model.parameters(), before, strict=True):
        assert p.dtype is torch.float32 and not torch.equal(whole(p), b)


@claim(2)
def curvature_is_estimated_through_tensor_parallel_layers(world: World):
    mesh = init_device_mesh("cpu", (2,))
    reference, model = make_model(), make_model()
    parallelize_module(model, mesh, {"0": ColwiseParallel(output_layouts=Replicate())})
    found = []
    for each in (reference, model):
        optimizer = kudari.optim.SophiaH(each.parameters(), lr=0.01)
        for step in range(2):
            x, y = batch(step)
            torch.manual_seed(step)
            optimizer.update_hessian(((each(x) - y) ** 2).mean(), n_probes=2)
            optimizer.zero_grad()
            ((each(x) - y) ** 2).mean().backward()
            optimizer.step()
        found.append([whole(optimizer.state[p]["hessian"]) for p in each.parameters()])
    for ours, expected in zip(found[1], found[0], strict=True):
        assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-14)
    assert_trained_alike(model, reference, "SophiaH")


@claim(4)
def fully_shard_over_tensor_parallel_trains_as_in_one_process(world: World):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    half = slice(6 * mesh.get_local_rank("data"), 6 * mesh.get_local_rank("data") + 6)
    for case, (name, options) in enumerate(TRAINED):
        model, (reference, _) = make_model(), trained(case)
        plan = {"0": ColwiseParallel(output_layouts=Replicate())}
        parallelize_module(model, mesh["tensor"], plan)
        fully_shard(model, mesh=mesh["data"])
        train(model, optimizer_of(name, options, model), half)
        assert_trained_alike(model, reference, name)


@claim(4)
def replicas_of_shards_train_as_one_process(world: World):
    """HSDP: cut over two ranks, repeated over two."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    quarter = slice(3 * world.rank, 3 * world.rank + 3)
    for case, (name, options) in enumerate(TRAINED[1:3], 1):
        model, (reference, _) = sharded(mesh), trained(case)
        train(model, optimizer_of(name, options, model), quarter)
        assert_trained_alike(model, reference, name)


@claim(2)
def clipping_and_averages_inside_the_step_go_over_all_parts(world: World):
    # Else FSDP keeps what the last forward pass has gathered, whatever happens to the parts.
    model = sharded(init_device_mesh("cpu", (2,)), reshard_after_forward=True)
    reference, both = make_model(), []
    half = slice(6 * world.rank, 6 * world.rank + 6)
    for each, rows in ((reference, slice(None)), (model, half)):
        optimizer = kudari.optim.AdamW(each.parameters(), lr=0.01)
        kudari.optim.fuse(optimizer, clip_norm=0.1, ema_decay=0.5, zero_grad=True)
        train(each, optimizer, rows)
        both.append(optimizer)
        assert all(not whole(p.grad).any() for p in each.parameters())
    norms = [kudari.optim.grad_norm(optimizer) for optimizer in both]
    assert abs(norms[0] - norms[1]) < 1e-9 * norms[0] and norms[0] > 0.1
    assert_trained_alike(model, reference, "")
    x = batch(9)[0]
    now = model(x).detach()
    with kudari.optim.averaged(both[0]), kudari.optim.averaged(both[1]):
        assert_trained_alike(model, reference, "averages")
        assert torch.allclose(model(x), reference(x)) and not torch.allclose(model(x), now)
        with pytest.raises(UnsupportedError, match="averaged"):
            both[1].step()
    assert torch.equal(model(x), now)
    with pytest.raises(UnsupportedError, match="is sharded"):
        kudari.optim.GradientRelease(kudari.optim.AdamW(model.parameters()))


@claim(2)
def a_copy_of_a_sharded_optimizer_state_goes_on_alike(world: World):
    """A checkpoint held in memory, and state_dict of an optimizer without parameter names."""
    model = sharded(init_device_mesh("cpu", (2,)))
    half = slice(6 * world.rank, 6 * world.rank + 6)
    optimizer = kudari.optim.LAMB(model.parameters(), lr=0.05)
    train(model, optimizer, half, steps=2)
    saved, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
    train(model, optimizer, half)
    expected = [whole(p) for p in model.parameters()]
    model.load_state_dict(weights)
    other = kudari.optim.LAMB(model.parameters(), lr=0.05)
    other.load_state_dict(saved)
    train(model, other, half)
    for p, e in zip(model.parameters(), expected, strict=True):
        assert torch.equal(whole(p), e)
