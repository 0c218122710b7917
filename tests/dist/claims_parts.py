"""Claims about steps on parts of tensors: every class and way to cut, against the run on whole tensors."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import kudari.optim
from kudari.compile.stage import find
from kudari.errors import UnsupportedError
from kudari.optim.describe import program
from tests.cpu.optim.cases import CASES
from tests.cpu.optim.conftest import build, gradients, start
from tests.dist.ranks import World, claim

# Uneven over 2 and 3 ranks; a part without elements; longer than a chunk; kernel, vector, number, nothing.
SHAPES = [(5, 4), (1, 3), (11_001, 3), (3, 2, 3, 3), (7,), (1,), (), (0, 3)]
REDUCING = [
    ("LAMB", {"lr": 0.01}),
    ("LAMB", {"lr": 0.01, "variant": "nvlamb", "weight_decay": 0.1}),
    ("LAMB", {"lr": 0.01, "cautious": True}),
    ("LARS", {"lr": 1.0, "weight_decay": 0.01, "nesterov": True}),
    ("LARS", {"lr": 1.0, "variant": "larc"}),
    ("StableAdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "cautious": True}),
    ("Lion", {"lr": 0.01, "cautious": True}),
    ("MARS", {"lr": 0.01}),
    ("Prodigy", {"lr": 1.0, "weight_decay": 0.1}),
]
# These look at rows, at the order of elements, or at whole matrices.
WHOLE = [
    ("Adafactor", {"lr": 0.01, "weight_decay": 0.1}),
    ("Prodigy", {"lr": 1.0, "slice_p": 3}),
    ("Muon", {"lr": 0.02, "weight_decay": 0.1}),
    ("SOAP", {"lr": 0.01, "precondition_frequency": 2, "max_precond_dim": 100}),
    (
        "Shampoo",
        {
            "lr": 0.01,
            "precondition_frequency": 2,
            "start_preconditioning_step": 2,
            "momentum": 0.9,
            "max_precond_dim": 100,
        },
    ),
]
COUPLED = [*REDUCING, *WHOLE]
# One configuration of each class whose formula has no sums.
ELEMENTWISE = list(
    {
        n: (n, kw)
        for n, kw in CASES
        if n not in dict(WHOLE) and not program(kudari.optim.get(n).rule, kw).sums
    }.values()
)
COMPARED = [*COUPLED, *ELEMENTWISE]
# Sums over parts are added in another order than sums over whole tensors. The contract gives every float64
# trajectory a billionth of the distance moved, and these more.
NEAR = {"Muon": 1e-8, "Prodigy": 1e-8, "Shampoo": 1e-7, "SOAP": 1e-6}


def cut(x, mesh, placements):
    """A tensor cut where it can be: a number, or a dimension that is not there, is repeated."""
    there = [Replicate() if p.is_shard() and p.dim >= x.ndim else p for p in placements]
    return distribute_tensor(x.detach().clone(), mesh, there, src_data_rank=None)


def whole(x):
    return x.detach().full_tensor() if isinstance(x, DTensor) else x.detach()


def alternating(mesh, *choices):
    """A way to place tensors: plain, then each of the choices, and again."""
    ways = [None, *choices]
    return lambda i, x: x if ways[i % len(ways)] is None else cut(x, mesh, ways[i % len(ways)])


def everywhere(mesh, *placements):
    return lambda _, x: cut(x, mesh, placements)


def run(name, options, place=lambda _, x: x, steps=5, dtype=torch.float64, shapes=SHAPES, grad=None):
    """The optimizer and its parameters after some steps on the common stream of gradients."""
    params = [torch.nn.Parameter(place(i, p.detach())) for i, p in enumerate(start(dtype, shapes))]
    optimizer = build(name, params, **options)
    for step in range(steps):
        for i, (p, g) in enumerate(zip(params, gradients(step, dtype, shapes), strict=True)):
            p.grad = (grad or place)(i, g)
        optimizer.step()
    return optimizer, params


@functools.cache
def expected_of(case, steps=5):
    """The same on whole tensors: computed before the ranks are forked, so that they all have it."""
    name, options = COMPARED[case]
    optimizer, params = run(name, options, steps=steps)
    return [p.detach() for p in params], [optimizer.state[p] for p in params]


def prepare():
    """Compute what every rank compares with; their kernels come along."""
    for case in range(len(COMPARED)):
        expected_of(case)


def moved(params, shapes=SHAPES, dtype=torch.float64):
    pairs = zip(params, start(dtype, shapes), strict=True)
    return torch.cat([(whole(p) - s.detach()).flatten() for p, s in pairs])


def assert_near(params, expected, name):
    path, reference = moved(params), moved(expected)
    assert (path - reference).norm() <= NEAR.get(name, 1e-9) * reference.norm(), name
    assert reference.norm() > 0, name


def assert_same_bits(params, expected, label):
    for p, e in zip(params, expected, strict=True):
        assert torch.equal(whole(p), whole(e)), label


@claim(2)
def every_elementwise_class_has_the_same_bits_on_parts(world: World):
    mesh = init_device_mesh("cpu", (2,))
    for case, (name, options) in enumerate(ELEMENTWISE, len(COUPLED)):
        optimizer, params = run(name, options, everywhere(mesh, Shard(0)))
        expected, states = expected_of(case)
        assert_same_bits(params, expected, name)
        like_parameter = {s.key for s in optimizer.rule.states if not s.scalar}
        for p, state in zip(params, states, strict=True):
            for key, value in state.items():
                ours = optimizer.state[p][key]
                assert isinstance(ours, DTensor) is (key in like_parameter), (name, key)
                assert torch.equal(whole(ours), value), (name, key)


@claim(2)
def every_class_with_sums_moves_as_on_whole_tensors(world: World):
    mesh = init_device_mesh("cpu", (2,))
    for case, (name, options) in enumerate(REDUCING):
        expected, _ = expected_of(case)
        for place in (everywhere(mesh, Shard(0)), alternating(mesh, [Shard(0)], [Shard(1)], [Replicate()])):
            _, params = run(name, options, place)
            assert_near(params, expected, name)


@claim(2)
def every_class_that_looks_at_rows_order_or_matrices_moves_as_on_whole_tensors(world: World):
    mesh = init_device_mesh("cpu", (2,))
    for case in range(len(REDUCING), len(COUPLED)):
        name, options = COMPARED[case]
        expected, states = expected_of(case)
        for place in (everywhere(mesh, Shard(0)), alternating(mesh, [Shard(0)], [Shard(1)], [Replicate()])):
            optimizer, params = run(name, options, place)
            assert_near(params, expected, name)
        like_parameter = {s.key for s in optimizer.rule.states if s.shape == "elements" and not s.every}
        for p, state in zip(params, states, strict=True):
            for key, value in state.items():
                ours = optimizer.state[p][key]
                sharded = isinstance(p, DTensor) and key in like_parameter
                if isinstance(value, torch.Tensor):
                    assert isinstance(ours, DTensor) is sharded and ours.shape == value.shape, (name, key)


@claim(2)
def a_matrix_is_worked_on_by_one_rank(world: World):
    mesh = init_device_mesh("cpu", (2,))
    stage, _ = find("newton_schulz")
    done = []

    def counting(works):
        done.append([tuple(w.values[0].shape) for w in works])
        return original(works)

    shapes = [(8, 8), (4, 4), (4, 5), (2, 3)]
    params = [torch.nn.Parameter(cut(p, mesh, [Shard(0)])) for p in start(torch.float64, shapes)]
    plain = torch.nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
    optimizer = kudari.optim.Muon([*params, plain])
    for p in (*params, plain):
        p.grad = torch.ones_like(p)
    original = stage.run
    object.__setattr__(stage, "run", counting)
    try:
        optimizer.step()
    finally:
        object.__setattr__(stage, "run", original)
    mine = [(8, 8)] if world.rank == 0 else [(4, 4), (4, 5), (2, 3)]
    assert done == [[(3, 3)], mine]


@claim(4)
def sums_over_meshes_of_two_dimensions_count_every_element_once(world: World):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("outer", "inner"))
    ways = [
        everywhere(mesh, Replicate(), Shard(0)),
        everywhere(mesh, Shard(0), Replicate()),
        everywhere(mesh, Shard(0), Shard(0)),
        everywhere(mesh, Shard(1), Shard(0)),
        alternating(mesh["inner"], [Shard(0)], [Shard(1)], [Replicate()]),
    ]
    for case in (1, 2, len(REDUCING) - 1, len(REDUCING)):
        name, options = COMPARED[case]
        expected, _ = expected_of(case)
        for place in ways:
            _, params = run(name, options, place)
            assert_near(params, expected, name)


@claim(3)
def three_ranks_of_uneven_parts_move_as_one(world: World):
    mesh = init_device_mesh("cpu", (3,))
    for case in (1, 4, *range(len(REDUCING) - 1, len(COUPLED)), len(COMPARED) - 1):
        name, options = COMPARED[case]
        expected, _ = expected_of(case)
        _, params = run(name, options, everywhere(mesh, Shard(0)))
        assert_near(params, expected, name)


@claim(2)
def sums_of_a_pass_travel_together(world: World):
    mesh = init_device_mesh("cpu", (2,))
    sent = []
    original = dist.all_reduce

    def counting(tensor, *args, **kw):
        sent.append(tensor.numel())
        return original(tensor, *args, **kw)

    dist.all_reduce = counting
    try:
        for name, options, passes in [("LAMB", {}, 1), ("LAMB", {"variant": "nvlamb"}, 2), ("AdamW", {}, 0)]:
            half = len(SHAPES) // 2
            params = [
                torch.nn.Parameter(cut(p, mesh, [Shard(0)])) for p in start(torch.float64) if p.ndim > 0
            ]
            groups = [{"params": params[:half]}, {"params": params[half:], "lr": 0.1}]
            optimizer = build(name, groups, **options)
            for p in params:
                p.grad = torch.zeros_like(p)
            for _ in range(2):
                sent.clear()
                optimizer.step()
                assert len(sent) == passes, (name, sent)
    finally:
        dist.all_reduce = original


@claim(2)
def gradients_that_are_cut_otherwise_are_brought_into_place_and_left_alone(world: World):
    mesh = init_device_mesh("cpu", (2,))

    def split_sum(_, g):
        share = 0.25 if world.rank == 0 else 0.75  # powers of two and their sums: exact
        return DTensor.from_local(g * share, mesh, [Partial()], shape=g.shape, stride=g.stride())

    ways = {
        "partial": split_sum,
        "replicated": everywhere(mesh, Replicate()),
        "other dimension": everywhere(mesh, Shard(1)),
    }
    for name in ("AdamW", "LAMB"):
        _, expected = run(name, {}, everywhere(mesh, Shard(0)))
        for way, grad in ways.items():
            optimizer, params = run(name, {}, everywhere(mesh, Shard(0)), grad=grad)
            assert_near(params, expected, name)
            before = [(p.grad, p.grad.to_local().clone()) for p in params]
            optimizer.step()
            for p, (g, value) in zip(params, before, strict=True):
                assert p.grad is g and torch.equal(g.to_local(), value), way


@claim(2)
def a_gradient_filled_anew_is_read_anew(world: World):
    mesh = init_device_mesh("cpu", (2,))
    p = torch.nn.Parameter(cut(torch.zeros(4, 2), mesh, [Shard(0)]))
    optimizer = kudari.optim.SGD([p], lr=1.0)
    g = DTensor.from_local(torch.ones(4, 2), mesh, [Partial()])
    p.grad = g
    for value in (1.0, 2.0, 4.0):
        g.to_local().fill_(value)
        optimizer.step()
    assert torch.equal(whole(p), torch.full((4, 2), -14.0))


@claim(2)
def what_has_no_meaning_is_refused(world: World):
    mesh = init_device_mesh("cpu", (2,))
    partial = torch.nn.Parameter(DTensor.from_local(torch.ones(3), mesh, [Partial()]))
    partial.grad = torch.ones_like(partial)
    with pytest.raises(UnsupportedError, match="Partial"):
        kudari.optim.AdamW([partial]).step()
    p = torch.nn.Parameter(cut(torch.ones(4), mesh, [Shard(0)]))
    with pytest.raises(UnsupportedError, match="a plain tensor"):
        kudari.optim.SophiaH([p]).update_hessian(hessian=[torch.ones(4)])


@claim(2)
def tensors_without_gradients_on_any_rank_take_no_part(world: World):
    mesh = init_device_mesh("cpu", (2,))
    place = everywhere(mesh, Shard(0))
    for name, options in REDUCING[:2]:
        params = [torch.nn.Parameter(place(i, p)) for i, p in enumerate(start())]
        plain = start()
        for tensors, where in ((params, place), (plain, lambda _, x: x)):
            groups = [{"params": tensors[:3]}, {"params": tensors[3:5]}, {"params": tensors[5:]}]
            optimizer = build(name, groups, **options)
            for step in range(4):
                for i, g in enumerate(gradients(step)):
                    absent = i in (3, 4) or (i == 1 and step % 2)
                    tensors[i].grad = None if absent else where(i, g)
                optimizer.step()
        for p, e in zip(params, plain, strict=True):
            assert torch.allclose(whole(p), e.detach(), rtol=1e-12, atol=1e-12), name


@claim(2)
def an_overflow_on_one_rank_stops_all(world: World):
    mesh = init_device_mesh("cpu", (2,))
    optimizer, params = run("LAMB", {}, everywhere(mesh, Shard(0)))
    before = [whole(p).clone() for p in params]
    optimizer.grad_scale = torch.tensor(2.0)
    optimizer.found_inf = torch.tensor(float(world.rank))
    optimizer.step()
    assert all(torch.equal(whole(p), b) for p, b in zip(params, before, strict=True))
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not torch.equal(whole(params[0]), before[0])


@claim(2)
def a_gradient_that_is_not_finite_on_one_rank_stops_all(world: World):
    mesh = init_device_mesh("cpu", (2,))
    optimizer, params = run("AdamW", {"skip_nonfinite": True}, everywhere(mesh, Shard(0)))
    before = [whole(p).clone() for p in params]
    if world.rank == 1:
        params[0].grad.to_local().view(-1)[0] = float("inf")
    optimizer.step()
    assert all(torch.equal(whole(p), b) for p, b in zip(params, before, strict=True))
    params[0].grad.to_local().view(-1)[0] = 1.0
    optimizer.step()
    assert not torch.equal(whole(params[0]), before[0])


@claim(2)
def low_bit_states_of_parts_stay_in_full_precision(world: World):
    mesh = init_device_mesh("cpu", (2,))
    for name in ("AdamW", "LAMB"):
        _, params = run(name, {"state_dtype": "8bit"}, everywhere(mesh, Shard(0)))
        _, expected = run(name, {})
        assert_near(params, expected, name)


@claim(2)
def bare_slices_give_the_same_bits_to_elementwise_classes(world: World):
    """As FSDP1 and ZeRO hold parameters: each rank a flat piece of all of them, and no DTensor."""
    sizes = [100, 37]
    mine = [slice(0, 61), slice(5, 30)] if world.rank == 0 else [slice(61, 100), slice(30, 37)]
    for name, options in ELEMENTWISE:
        _, expected = run(name, options, shapes=[(n,) for n in sizes])
        params = [
            torch.nn.Parameter(p.detach()[s].clone())
            for p, s in zip(start(shapes=[(n,) for n in sizes]), mine, strict=True)
        ]
        optimizer = build(name, params, **options)
        for step in range(5):
            for p, g, s in zip(params, gradients(step, shapes=[(n,) for n in sizes]), mine, strict=True):
                p.grad = g[s]
            optimizer.step()
        for p, e, s in zip(params, expected, mine, strict=True):
            assert torch.equal(p.detach(), e.detach()[s]), name


@claim(2)
def averaging_and_curvature_work_on_parts(world: World):
    mesh = init_device_mesh("cpu", (2,))
    place = everywhere(mesh, Shard(0))
    for name in ("ScheduleFreeSGD", "ScheduleFreeAdamW"):
        ours, params = run(name, {"lr": 0.1}, place)
        reference, expected = run(name, {"lr": 0.1})
        for switch in ("eval", "train"):
            getattr(ours, switch)()
            getattr(reference, switch)()
            assert_same_bits(params, expected, switch)
    for name in ("SophiaG", "SophiaH"):
        ours, params = run(name, {"lr": 0.1}, place)
        reference, expected = run(name, {"lr": 0.1})
        for i, (p, e) in enumerate(zip(params, expected, strict=True)):
            e.grad = e.grad * 2
            p.grad = place(i, e.grad)
        if name == "SophiaG":
            ours.update_hessian()
            reference.update_hessian()
        else:
            ours.update_hessian(hessian=[p.grad for p in params])
            reference.update_hessian(hessian=[e.grad for e in expected])
        for p, e in zip(params[:-1], expected[:-1], strict=True):  # the last one has no elements
            assert torch.equal(whole(ours.state[p]["hessian"]), reference.state[e]["hessian"])
            assert e.numel() < 20 or reference.state[e]["hessian"].any()
        ours.step()
        reference.step()
        assert_same_bits(params, expected, name)


@claim(2)
def a_part_that_is_replaced_is_bound_anew(world: World):
    mesh = init_device_mesh("cpu", (2,))
    optimizer, params = run("AdamW", {}, everywhere(mesh, Shard(0)))
    _, expected = run("AdamW", {}, steps=6)
    for p in params[:-1]:  # the last one has no elements
        p.data = p.data.clone()
        optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].clone()
    for i, (p, g) in enumerate(zip(params, gradients(5, shapes=SHAPES), strict=True)):
        p.grad = everywhere(mesh, Shard(0))(i, g)
    optimizer.step()
    assert_same_bits(params, expected, "")


@claim(2)
def low_precision_parts_round_as_whole_tensors(world: World):
    mesh = init_device_mesh("cpu", (2,))
    for dtype in (torch.bfloat16, torch.float32):
        _, params = run("AdamW", {"lr": 0.1}, everywhere(mesh, Shard(0)), dtype=dtype)
        _, expected = run("AdamW", {"lr": 0.1}, dtype=dtype)
        assert_same_bits(params, expected, str(dtype))
