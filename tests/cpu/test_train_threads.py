"""Small models get one thread, large ones all."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kudari.models import cnn, mlp
from kudari.train.threads import FLOPS_PER_THREAD, count_flops, plan_threads, using_threads
from tests.cpu.train_runs import network, points, quiet_fit

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flops", "available", "count"),
    [
        (4_000_000, 2, 1),
        (2 * FLOPS_PER_THREAD - 1, 2, 1),
        (2 * FLOPS_PER_THREAD, 2, 2),
        (2 * FLOPS_PER_THREAD, 16, 2),
        (100 * FLOPS_PER_THREAD, 16, 16),
        (0, 16, 1),
        (100 * FLOPS_PER_THREAD, 1, 1),
    ],
)
def test_every_thread_has_its_share_of_work(flops, available, count):
    plan = plan_threads("auto", flops, CPU, available)
    assert plan.count == count
    assert plan.why


def test_number_asked_for_is_used(tmp_path):
    seen = []

    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            seen.append(torch.get_num_threads())
            return self.net(x)

    run = quiet_fit(Look(), points(), steps=2, threads=2, out=tmp_path / "run")
    assert seen[-1] == 2
    assert run.facts.environment["threads"] == "2 (asked for)"
    assert torch.get_num_threads() == 1


def test_setting_returns_after_an_error():
    with pytest.raises(KeyError), using_threads(2):
        assert torch.get_num_threads() == 2
        raise KeyError
    assert torch.get_num_threads() == 1


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x):
        return self.layer(x)


MODELS = {
    "mlp": (lambda: mlp(64, [128], 10), (32, 64)),
    "cnn": (lambda: cnn(1, 10, width=8), (2, 1, 28, 28)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 5, 3, stride=2), (2, 3, 7, 7)),
    "groups": (lambda: nn.Conv1d(4, 8, 3, groups=2), (2, 4, 10)),
}


@pytest.mark.parametrize("name", MODELS)
def test_counted_operations_equal_torchs_counter(name):
    make, shape = MODELS[name]
    model, x = make(), torch.randn(shape)
    with FlopCounterMode(display=False) as reference:
        model(x)
    assert count_flops(lambda: model(x)) == reference.get_total_flops()


def test_products_and_attention_are_counted():
    a, b = torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)
    assert count_flops(lambda: a @ b) == 2 * 2 * 3 * 4 * 5
    assert count_flops(lambda: torch.baddbmm(torch.zeros(2, 3, 5), a, b)) == 2 * 2 * 3 * 4 * 5
    assert count_flops(lambda: F.scaled_dot_product_attention(a, a, a)) == 4 * 2 * 3 * 3 * 4
    assert count_flops(lambda: nn.LSTM(4, 6)(torch.zeros(5, 2, 4))) > 2 * 10 * 24 * 10
    assert count_flops(lambda: Attention()(torch.zeros(2, 3, 16))) > 0
