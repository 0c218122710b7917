"""Parameter groups: every parameter once, in the group that its place in the model asks for."""

import copy
import doctest
import sys

import pytest
import torch
from torch import nn

import kudari.optim
from kudari.errors import ArgumentError
from kudari.optim import groups, groups_table


class Decoder(nn.Module):
    """Embedding, positions, three layers, a norm and a head that shares the embedding's weights."""

    def __init__(self, tied=True):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 9, 8))
        self.embedding = nn.Embedding(30, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(3))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 30, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


def value_of(made, key):
    """The value of each parameter's group, by the parameter's name."""
    return {name: g[key] for g in made for name in g["param_names"]}


MANY = [
    {"weight_decay": 0.1},
    {"weight_decay": 0.0, "no_decay": ()},
    {"weight_decay": 0.1, "lr": 1e-3, "layer_decay": 0.7, "lr_scale": {"norm": 10.0}},
    {"weight_decay": 0.1, "lr": 1e-3, "muon": {"lr": 0.02}, "layer_decay": 0.7},
]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kw", MANY, ids=lambda kw: "-".join(kw))
def test_every_trainable_parameter_is_in_exactly_one_group_under_its_name(kw, tied):
    model = Decoder(tied)
    model.norm.weight.requires_grad_(False)
    made = groups(model, **kw)
    found = [(n, id(p)) for g in made for n, p in zip(g["param_names"], g["params"], strict=True)]
    assert sorted(found) == sorted((n, id(p)) for n, p in model.named_parameters() if p.requires_grad)
    assert all(g["params"] for g in made)
    assert len({g["name"] for g in made}) == len(made)


@pytest.mark.parametrize("cls", [torch.optim.AdamW, kudari.optim.AdamW])
def test_the_groups_are_ordinary_ones_for_any_optimizer(cls):
    optimizer = cls(groups(Decoder(), weight_decay=0.1, lr=1e-3, layer_decay=0.5))
    rates = value_of(optimizer.param_groups, "lr")
    assert rates["norm.weight"] == 1e-3
    assert rates["embedding.weight"] == 1e-3 * 0.5**4
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1)
    assert value_of(optimizer.param_groups, "lr")["norm.weight"] == pytest.approx(1e-4)


def test_embeddings_are_decayed_unless_asked_and_single_names_may_be_listed():
    model = Decoder()
    assert value_of(groups(model, weight_decay=0.1), "weight_decay")["embedding.weight"] == 0.1
    kinds = ("bias", "norm", "vector or scalar", "embedding")
    bare = value_of(
        groups(model, weight_decay=0.1, no_decay=kinds, no_weight_decay_list=["positions", "layers.2"]),
        "weight_decay",
    )
    assert {n for n, d in bare.items() if d} == {
        f"layers.{i}.{n}" for i in (0, 1)
        for n in ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    }  # fmt: skip


def test_all_weights_are_decayed_where_nothing_is_exempt():
    assert set(value_of(groups(Decoder(), weight_decay=0.1, no_decay=()), "weight_decay").values()) == {0.1}


def test_the_rate_falls_from_the_output_to_the_input_and_not_below_the_least():
    rates = value_of(groups(Decoder(), weight_decay=0.1, lr=1.0, layer_decay=0.5, min_scale=0.1), "lr")
    assert rates["norm.bias"] == 1.0
    assert [rates[f"layers.{i}.linear1.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert rates["embedding.weight"] == rates["positions"] == 0.1


def test_several_stacks_follow_one_another_and_what_lies_between_goes_with_the_next():
    model = nn.Module()
    model.stem = nn.Linear(2, 2)
    model.first = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model.between = nn.Linear(2, 2)
    model.second = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    model.head = nn.Linear(2, 2)
    rates = value_of(groups(model, weight_decay=0.0, lr=1.0, layer_decay=0.5), "lr")
    order = ["stem", "first.0", "first.2", "second.0.0", "second.1", "head"]
    assert [rates[f"{n}.weight"] for n in order] == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5, 1.0]
    assert rates["between.weight"] == rates["second.0.1.weight"] == 0.5**2


def test_layers_may_be_named():
    rates = value_of(
        groups(Decoder(), weight_decay=0.0, lr=1.0, layer_decay=0.5, layers=["embedding", "layers"]), "lr"
    )
    assert rates["positions"] == 0.125
    assert rates["embedding.weight"] == 0.25
    assert rates["layers.0.linear1.bias"] == rates["layers.2.linear1.bias"] == 0.5
    assert rates["norm.bias"] == 1.0


def test_factors_of_the_rate_multiply_and_the_last_that_fits_counts():
    rates = value_of(
        groups(
            Decoder(tied=False), weight_decay=0.1, lr=1.0, layer_decay=0.5,
            lr_scale={"layers.*": 2.0, "layers.2.linear1": 8.0, "head": 10.0},
        ),
        "lr",
    )  # fmt: skip
    assert rates["head.weight"] == 10.0
    assert rates["layers.2.linear2.weight"] == 1.0
    assert rates["layers.2.linear1.weight"] == 4.0


def test_muon_gets_the_matrices_of_the_layers_and_the_rest_is_marked():
    model = Decoder(tied=False)
    made = groups(model, weight_decay=0.1, lr=1e-3, muon={"lr": 0.02, "weight_decay": 0.3, "momentum": 0.9})
    routed = value_of(made, "use_muon")
    assert {n for n, muon in routed.items() if muon} == {
        n for n, p in model.layers.named_parameters(prefix="layers") if p.ndim == 2
    }
    assert not routed["head.weight"]
    assert not routed["positions"]  # one row
    (own,) = [g for g in made if g["use_muon"]]
    assert (own["lr"], own["weight_decay"], own["momentum"]) == (0.02, 0.3, 0.9)
    assert {g["lr"] for g in made if not g["use_muon"]} == {1e-3}
    assert {g["weight_decay"] for g in made if not g["use_muon"]} == {0.1, 0.0}


def test_the_head_that_muon_leaves_out_may_be_named_and_a_tied_one_is_an_embedding():
    assert not value_of(groups(Decoder(), weight_decay=0.1, muon=True), "use_muon")["embedding.weight"]
    routed = value_of(
        groups(Decoder(tied=False), weight_decay=0.1, muon=True, head=["layers.2.linear?"]), "use_muon"
    )
    assert routed["head.weight"]
    assert not routed["layers.2.linear2.weight"]
    assert routed["layers.2.self_attn.in_proj_weight"]


REFUSED = [
    ({"no_decay": ["biass"]}, r"no_decay='biass' is no kind of parameter. Did you mean 'bias'\?"),
    ({"no_weight_decay_list": ["embeding"]}, r"fits no trainable parameter. Did you mean 'embedding"),
    ({"no_weight_decay_list": "embedding"}, r"Pass a list: no_weight_decay_list=\['embedding'\]"),
    ({"lr": 1.0, "lr_scale": {"haed": 2.0}}, r"lr_scale has 'haed', .* Did you mean 'head"),
    ({"lr": 1.0, "lr_scale": {"head": -1.0}}, r"lr_scale\['head'\]=-1.0 is not allowed; expected a factor"),
    ({"layer_decay": 0.5}, "multiply a learning rate, and lr is not given"),
    ({"lr": 1.0, "layer_decay": 1.5}, "layer_decay=1.5 is not allowed; expected 0 < layer_decay <= 1"),
    ({"lr": 1.0, "layer_decay": 0.5, "min_scale": 2.0}, "min_scale=2.0 is not allowed"),
    ({"lr": 1.0, "layer_decay": 0.5, "layers": ["layer"]}, r"no module of the model. Did you mean 'layers'"),
    ({"muon": True, "head": ["haed"]}, r"head has 'haed', .* Did you mean 'head"),
    ({"muon": {"params": []}}, "muon has 'params', which is not for you to set"),
]


@pytest.mark.parametrize(("kw", "message"), REFUSED, ids=[m[:30] for _, m in REFUSED])
def test_what_fits_nothing_or_is_out_of_range_is_refused_by_name(kw, message):
    with pytest.raises(ArgumentError, match=message):
        groups(Decoder(tied=False), **{"weight_decay": 0.1, **kw})


def test_a_model_without_lists_of_layers_asks_for_them():
    with pytest.raises(ArgumentError, match=r"no list of layers .* Pass layers=\[...\]"):
        groups(nn.Linear(2, 2), weight_decay=0.1, lr=1.0, layer_decay=0.5)


def test_the_table_counts_and_names():
    made = groups(Decoder(), weight_decay=0.1, lr=1e-3, muon={"lr": 0.02})
    lines = groups_table(made).splitlines()
    assert lines[0].split() == ["group", "tensors", "parameters", "lr", "weight_decay", "use_muon", "names"]
    assert lines[1].split()[:6] == ["muon_decay", "12", "1,536", "0.02", "0.1", "True"]
    assert "... 9 more" in lines[1]
    count = sum(p.numel() for p in Decoder().parameters())
    assert lines[-1].split() == ["all", "40", f"{count:,}"]


def test_the_table_reads_the_groups_of_any_optimizer():
    table = groups_table(torch.optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1).param_groups)
    assert table.splitlines()[1].split() == ["0", "2", "9", "0.1", "0.0"]


def test_the_examples_run():
    for module in ("groups", "make"):
        found = doctest.testmod(sys.modules[f"kudari.optim.{module}"])
        assert found.attempted
        assert not found.failed
