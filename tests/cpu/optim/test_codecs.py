"""A coded state is exact where it must be, near where it need not be, and the same on every path."""

import copy
import io

import numpy as np
import pytest
import torch

import kudari.optim
from kudari.compile.codecs import CODECS, codec_of
from kudari.optim.states import decode, encode, is_coded
from tests.cpu.optim.conftest import build

CODED = ["8bit", "4bit", "8bit-dynamic"]
SIZE = 256 * 20 + 37  # above the 4096 from which states are coded; a short last block, an odd tail


def normal(*shape, seed=0, dtype=torch.float32):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=gen).to(dtype)


def spread(n, seed=0):
    """Numbers over nine powers of ten, both signs."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=gen) * 10.0 ** (-9 * torch.rand(n, generator=gen))


def run(state_dtype, steps=5, name="AdamW", shape=(SIZE,), dtype=torch.float32, threads=1, p=None, **kw):
    p = torch.nn.Parameter(normal(*shape, dtype=dtype)) if p is None else p
    optimizer = build(name, [p], state_dtype=state_dtype, **kw)
    torch.set_num_threads(threads)
    try:
        for step in range(steps):
            p.grad = normal(*p.shape, seed=step + 1, dtype=p.dtype)
            optimizer.step()
    finally:
        torch.set_num_threads(1)
    return p, optimizer


def flat(state):
    """Every tensor of a parameter's entry."""
    return [
        x for v in state.values() for x in (v.values() if isinstance(v, dict) else [v]) if torch.is_tensor(x)
    ]


# --- the codes themselves


@pytest.mark.parametrize("name", CODECS)
def test_what_was_decoded_gets_the_same_codes_again(name):
    codec = CODECS[name]
    x = spread(5000)
    x[:: codec.block] = 10  # the dynamic map has no counterpart below zero to its largest value
    first = encode(x if codec.signed else x.abs(), codec)
    again = encode(decode(first), codec)
    torch.testing.assert_close(again["scale"], first["scale"], rtol=2.4e-7, atol=0)  # two roundings
    if "4bit" not in name:  # there a value that a rounding has moved off its code may be drawn to the next
        assert torch.equal(again["code"], first["code"])


@pytest.mark.parametrize("name", CODECS)
def test_a_blocks_largest_value_comes_back(name):
    codec = CODECS[name]
    x = spread(codec.block * 8).abs()
    largest = x.view(8, -1).amax(1)
    back = decode(encode(x, codec)).view(8, -1).amax(1)
    torch.testing.assert_close(back, largest, rtol=2.4e-7, atol=0)  # two roundings


# The distance between neighbours near the largest value, half of it where rounding is to nearest: 16 steps an
# octave; (k/7)**2, (k/15)**4 and (k/15)**2 at the top, all of it since it is drawn; 0.9/64 and 0.9/128 of
# dynamic maps.
NEAR = {"8bit": 1 / 32, "8bit unsigned": 1 / 32, "4bit": 13 / 49, "4bit unsigned": 0.229,
        "4bit size": 29 / 225, "8bit-dynamic": 0.0071, "8bit-dynamic unsigned": 0.0036}  # fmt: skip


@pytest.mark.parametrize("name", CODECS)
def test_values_near_the_largest_are_as_near_as_codes_lie(name):
    x = torch.linspace(0.9, 1, 256)
    off = (decode(encode(x, CODECS[name])) - x).abs().max()
    assert off <= NEAR[name]


@pytest.mark.parametrize("name", [n for n, codec in CODECS.items() if not codec.signed])
def test_a_second_moment_above_zero_never_becomes_zero(name):
    x = 10.0 ** -torch.arange(0, 30.0)
    assert (decode(encode(x, CODECS[name])) > 0).all()


def test_a_tiny_gradient_beside_large_ones_makes_no_giant_step_of_adamax_in_4_bits():
    gen = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = build("Adamax", [p], lr=1.0, state_dtype="4bit")
    tiny = torch.rand(64, 64, generator=gen) < 0.5
    for step in range(30):
        before = p.detach().clone()
        g = torch.randn(64, 64, generator=gen)
        p.grad = torch.where(tiny, 0 if step else g / 1000, g)
        optimizer.step()
        # The lowest codes are 1/49 of a block's largest average and 1/225 of its largest size, and of those
        # two largest numbers the average is the smaller one.
        assert (p - before)[tiny].abs().max() <= 225 / 49


@pytest.mark.parametrize("name", CODECS)
def test_zero_stays_exactly_zero(name):
    x = spread(600).abs()
    x[256:512], x[5] = 0, 0
    back = decode(encode(x, CODECS[name]))
    assert (back[256:512] == 0).all() and back[5] == 0 and back.count_nonzero() > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", CODECS)
def test_a_block_that_is_not_finite_comes_back_as_nan_and_the_others_do_not(name, bad):
    codec = CODECS[name]
    x = spread(codec.block * 3).abs()
    x[codec.block + 1] = bad
    back = decode(encode(x, codec)).view(3, -1)
    assert back[1].isnan().all() and back[0].isfinite().all() and back[2].isfinite().all()


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e38, 3.4e38])
@pytest.mark.parametrize("name", CODECS)
def test_the_ends_of_the_range_are_kept(name, size):
    back = decode(encode(torch.tensor([size, 0.0]), CODECS[name]))
    if size == 3.4e38 and CODECS[name].full < 1:
        assert back.isnan().all()  # its scale is beyond float32: visible, not wrong
    else:
        # Below the smallest normal number a block is coded in parts of that number.
        torch.testing.assert_close(back[0], torch.tensor(size), rtol=1e-6, atol=2.0**-126)
        assert back[1] == 0


def test_four_bit_codes_have_the_right_expectation():
    # Values close to one another, drawn independently: the standard error of the mean of 2**16 draws between
    # neighbours d apart is at most d/2/256.
    x = torch.linspace(0.30, 0.32, 2**16)
    x = torch.cat(
        [torch.ones(2**16 // 127 + 1, 1), torch.nn.functional.pad(x, (0, -len(x) % 127)).view(-1, 127)], 1
    )
    back = decode(encode(x.reshape(-1), CODECS["4bit"])).view(x.shape)[:-1, 1:]
    wanted = x[:-1, 1:]
    gap = (4 / 7) ** 2 - (3 / 7) ** 2
    assert abs((back - wanted).mean()) < 5 * gap / 2 / 256


# --- kernels and states


@pytest.mark.parametrize("state_dtype", ["bf16", *CODED])
def test_any_number_of_threads_gives_the_same_bits(state_dtype):
    one = run(state_dtype, shape=(200_001,), steps=3)
    two = run(state_dtype, shape=(200_001,), steps=3, threads=3)
    assert torch.equal(one[0], two[0])
    assert all(map(torch.equal, flat(one[1].state[one[0]]), flat(two[1].state[two[0]])))


@pytest.mark.parametrize("state_dtype", CODED)
def test_other_tensors_beside_it_change_no_bits(state_dtype):
    alone, _ = run(state_dtype)
    p = torch.nn.Parameter(normal(SIZE))
    others = [torch.nn.Parameter(normal(n)) for n in (5, 40_000, 4096)]
    optimizer = build("AdamW", [*others, p], state_dtype=state_dtype)
    for step in range(5):
        for q in others:
            q.grad = normal(*q.shape, seed=50 + step)
        p.grad = normal(SIZE, seed=step + 1)
        optimizer.step()
    assert torch.equal(p, alone)


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Lion", "Adan", "StableAdamW", "SGD"])
@pytest.mark.parametrize("state_dtype", ["8bit", "8bit-dynamic"])
def test_kernels_and_plain_torch_give_the_same_codes(name, state_dtype, monkeypatch):
    kw = {"momentum": 0.9, "lr": 0.1} if name == "SGD" else {}
    a, ours = run(state_dtype, name=name, **kw)
    monkeypatch.setattr("kudari.optim.bound_group._backend", lambda *_: None)
    monkeypatch.setattr("kudari.optim.bound_group._said", set())  # what is said once is said here again
    with pytest.warns(kudari.optim.EagerFallbackWarning):
        b, plain = run(state_dtype, name=name, **kw)
    for key, value in ours.state[a].items():
        if is_coded(value):
            apart = (value["code"].int() - plain.state[b][key]["code"].int()).abs()
            # Contracted products differ in the last bit, which moves a value across a border now and then.
            assert apart.max() <= 1 and (apart > 0).float().mean() < 0.01
    moved = (a.detach() - normal(SIZE)).norm()
    assert (a - b).norm() < 0.01 * moved


def test_float64_parameters_may_have_bfloat16_states():
    p, optimizer = run("bf16", dtype=torch.float64)
    exact, _ = run("fp32", dtype=torch.float64)
    assert optimizer.state[p]["exp_avg"].dtype is torch.bfloat16
    moved = (exact.detach() - normal(SIZE, dtype=torch.float64)).norm()
    assert (p - exact).norm() < 2**-7 * moved  # a unit in the last place of a bfloat16


def test_tensors_below_4096_elements_and_sums_stay_in_full_precision():
    small, large = torch.nn.Parameter(normal(4095)), torch.nn.Parameter(normal(4096))
    small.grad, large.grad = normal(4095, seed=1), normal(4096, seed=1)
    optimizer = build("AdamW", [small, large], state_dtype="8bit")
    optimizer.step()
    assert optimizer.state[small]["exp_avg"].dtype is torch.float32
    assert is_coded(optimizer.state[large]["exp_avg"]) and is_coded(optimizer.state[large]["exp_avg_sq"])
    for name, key in [("Adagrad", "sum"), ("ScheduleFreeAdamW", "z")]:
        p, optimizer = run("8bit", name=name, steps=1)
        assert optimizer.state[p][key].dtype is torch.float32
    p, optimizer = run("8bit", name="ScheduleFreeAdamW", steps=1)
    assert is_coded(optimizer.state[p]["exp_avg_sq"])


EVERY = {name: cls for name, cls in kudari.optim.catalogue.CLASSES.items() if cls.rule.states}


@pytest.mark.parametrize("name", EVERY)
def test_every_class_takes_every_state_dtype(name):
    kw = {"momentum": 0.9} if name in ("SGD", "LARS") else {}
    for state_dtype in ("bf16", *CODED):
        p, optimizer = run(state_dtype, name=name, steps=3, shape=(65, 64), **kw)
        assert p.isfinite().all() and not torch.equal(p, normal(65, 64))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.parametrize("name", ["Muon", "SOAP", "Shampoo", "Prodigy"])
def test_codes_beside_stages_and_slices_do_not_depend_on_strides_and_reload(name):
    kw = {"slice_p": 3} if name == "Prodigy" else {}
    rows = torch.nn.Parameter(normal(32, 16, 3, 3))
    lasting = torch.nn.Parameter(normal(32, 16, 3, 3).to(memory_format=torch.channels_last))
    _, optimizer = run("8bit", name=name, steps=3, p=rows, **kw)
    run("8bit", name=name, steps=3, p=lasting, **kw)
    assert torch.equal(rows, lasting) and any(map(is_coded, optimizer.state[rows].values()))
    again = torch.nn.Parameter(rows.detach().clone())
    other = build(name, [again], state_dtype="8bit", **kw)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, one in ((rows, optimizer), (again, other)):
        p.grad = normal(32, 16, 3, 3, seed=9)
        one.step()
    assert torch.equal(rows, again)


@pytest.mark.parametrize("state_dtype", CODED)
def test_strided_and_complex_and_double_parameters_are_taken(state_dtype):
    plain, _ = run(state_dtype, shape=(80, 64))
    base = torch.zeros(64, 80).t().copy_(normal(80, 64))
    strided = torch.nn.Parameter(base)
    assert not strided.is_contiguous()
    run(state_dtype, p=strided)
    assert torch.equal(strided, plain) and not strided.is_contiguous()
    double, _ = run(state_dtype, shape=(80, 64), dtype=torch.float64)
    moved = (plain.detach() - normal(80, 64)).norm()
    # Other roundings in float64: a code differs now and then, at 4 bits every draw.
    assert (double.detach().float() - plain).norm() < (0.2 if state_dtype == "4bit" else 0.01) * moved
    p = torch.nn.Parameter(torch.complex(normal(2048), normal(2048, seed=9)))
    p.grad = torch.complex(normal(2048, seed=1), normal(2048, seed=2))
    optimizer = build("AdamW", [p], state_dtype=state_dtype)
    optimizer.step()
    assert optimizer.state[p]["exp_avg"]["shape"].tolist() == [2048, 2]


@pytest.mark.parametrize("state_dtype", ["8bit", "4bit"])
def test_saved_states_have_the_promised_size(state_dtype):
    p, optimizer = run(state_dtype, shape=(512, 256), steps=1)
    bytes_ = sum(x.numel() * x.element_size() for x in flat(optimizer.state[p])) / (2 * p.numel())
    assert bytes_ <= {"8bit": 1.1, "4bit": 0.6}[state_dtype]


@pytest.mark.parametrize("state_dtype", ["fp32", "bf16", *CODED])
def test_a_reloaded_optimizer_goes_on_bit_for_bit(state_dtype):
    p, optimizer = run(state_dtype)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    q = torch.nn.Parameter(p.detach().clone())
    other = build("AdamW", [q], state_dtype=state_dtype)
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for step in range(3):
        p.grad = q.grad = normal(SIZE, seed=90 + step)
        optimizer.step()
        other.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("source", ["fp32", "bf16", *CODED])
@pytest.mark.parametrize("target", ["fp32", "bf16", *CODED])
def test_checkpoints_convert_between_any_two_state_dtypes(source, target):
    p, optimizer = run(source)
    q = torch.nn.Parameter(p.detach().clone())
    other = build("AdamW", [q], state_dtype=target)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["state_dtype"] == target
    found, given = other.state[q]["exp_avg"], optimizer.state[p]["exp_avg"]
    plain = [decode(x) if is_coded(x) else x.float() for x in (found, given)]
    assert is_coded(found) is (target in CODED)
    near = 0.35 if "4bit" in (source, target) else 0.08
    assert (plain[0] - plain[1]).norm() <= near * plain[1].norm()
    q.grad = normal(SIZE, seed=7)
    other.step()
    assert q.isfinite().all()


def test_a_loaded_checkpoint_shares_no_memory():
    p, optimizer = run("8bit")
    q = torch.nn.Parameter(p.detach().clone())
    other = build("AdamW", [q], state_dtype="8bit")
    other.load_state_dict(optimizer.state_dict())
    before = optimizer.state[p]["exp_avg"]["code"].clone()
    q.grad = normal(SIZE, seed=77)
    other.step()
    assert torch.equal(optimizer.state[p]["exp_avg"]["code"], before)


def test_a_group_can_change_its_state_dtype_in_the_middle():
    p, optimizer = run("fp32")
    optimizer.param_groups[0]["state_dtype"] = "8bit"
    p.grad = normal(SIZE, seed=3)
    optimizer.step()
    assert is_coded(optimizer.state[p]["exp_avg"])


def test_a_coded_state_of_another_shape_is_refused_by_name():
    _, optimizer = run("8bit", shape=(64, 80))
    q = torch.nn.Parameter(normal(80, 64))
    other = build("AdamW", [q], state_dtype="8bit")
    other.load_state_dict(optimizer.state_dict())
    q.grad = normal(80, 64)
    with pytest.raises(RuntimeError, match=r"AdamW: state 'exp_avg' has shape \(64, 80\)"):
        other.step()


def test_unknown_values_are_refused():
    for key in ("state_dtype", "rounding", "skip_nonfinite"):
        with pytest.raises(ValueError, match=f"AdamW: {key}='x' is not allowed; expected"):
            build("AdamW", [torch.nn.Parameter(normal(3))], **{key: "x"})


# --- bitsandbytes


def bitsandbytes_map(signed):
    """The published construction of the dynamic map, with linspace and sorting."""
    values = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, (2**i if signed else 2 ** (i + 1)) + 1)
        means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (i - 6)
        values += [*means, *(-means if signed else [])]
    return torch.tensor(sorted(values), dtype=torch.float32)


@pytest.mark.parametrize("signed", [True, False])
def test_dynamic_codes_are_places_in_bitsandbytes_map_and_the_nearest_ones(signed):
    codec, places = codec_of("8bit-dynamic", not signed), bitsandbytes_map(signed)
    coded = {**encode(torch.ones(256), codec), "code": torch.arange(256, dtype=torch.uint8)}
    torch.testing.assert_close(decode(coded), places, rtol=2e-6, atol=1e-12)
    x = torch.cat([torch.ones(1), spread(20_000)])
    x = (x if signed else x.abs()).clamp(-1, 1)
    x = torch.cat(
        [torch.ones(len(x) // 255 + 1, 1), torch.nn.functional.pad(x, (0, 255 - len(x) % 255)).view(-1, 255)],
        1,
    )
    back, x = decode(encode(x.reshape(-1), codec)), x.reshape(-1)
    nearest = (x[:, None] - places).abs().amin(1)
    off = (back - x).abs()
    never_zero = (
        (x > 0) & (x < places[places > 0][0]) if not signed else torch.zeros_like(x, dtype=torch.bool)
    )
    assert (off <= nearest + 1e-5 * x.abs() + 1e-12)[~never_zero].all()


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("state_dtype", ["8bit-dynamic", "8bit", "fp32"])
def test_checkpoints_of_bitsandbytes_load(state_dtype, wrapped):
    gen = torch.Generator().manual_seed(0)
    blocks = -(-SIZE // 256)
    entry = {"step": 12}
    quantised = {}
    for i, signed in ((1, True), (2, False)):
        entry[f"state{i}"] = torch.randint(0, 256, (SIZE,), generator=gen).to(torch.uint8)
        quantised[f"qmap{i}"] = bitsandbytes_map(signed)
        quantised[f"absmax{i}"] = torch.rand(blocks, generator=gen) + 0.5
    entry |= {"__bnb_optimizer_quant_state__": quantised} if wrapped else quantised
    p = torch.nn.Parameter(normal(SIZE))
    optimizer = build("AdamW", [p], state_dtype=state_dtype)
    saved = optimizer.state_dict()
    saved["state"] = {0: entry}
    optimizer.load_state_dict(saved)
    state = optimizer.state[p]
    assert state["step"] == 12
    for i, key in ((1, "exp_avg"), (2, "exp_avg_sq")):
        wanted = (
            quantised[f"qmap{i}"][entry[f"state{i}"].long()]
            * quantised[f"absmax{i}"].repeat_interleave(256)[:SIZE]
        )
        found = decode(state[key]) if is_coded(state[key]) else state[key]
        near = 0.03 if state_dtype == "8bit" else 1e-5
        assert (found - wanted).norm() <= near * wanted.norm()
    p.grad = normal(SIZE, seed=1)
    optimizer.step()
    assert p.isfinite().all()
