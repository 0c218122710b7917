"""A model defines a train or eval method of its own, so modes cannot be switched."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Place, Runs, Skipped, Verdict
from kudari.doctor.static.modules import read_mode_overrides

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


def judge(run: RunFacts) -> Verdict:
    """``train`` or ``eval`` that cannot be called as torch calls them."""
    roots = [
        (root, module) for root in run.roots.roots if (module := root.ref()) is not None and root.grad_calls
    ]
    if not roots:
        return Skipped("no model is alive at the end of the run")
    found: dict[type, Found] = {}
    for root, module in roots:
        for cls in {type(m) for m in module.modules()}:
            name = next((n for n in ("train", "eval") if not _callable_like_torch(cls, n)), None)
            if name is None or cls in found:
                continue
            code = getattr(cls, name).__code__
            found[cls] = Found(
                f"{cls.__name__} defines its own {name}(): Module.{name}() no longer switches modes",
                Place(code.co_filename, code.co_firstlineno),
                {"count": 1, "first_step": 0},
                fix=f"rename {cls.__name__}.{name}, for example to fit()",
                label="overrides Module." + name,
                subjects=frozenset([root.key]),
            )
    return list(found.values())


def _callable_like_torch(cls: type, name: str) -> bool:
    method = getattr(cls, name, None)
    if method is None or method.__module__.startswith(("torch.", "kudari.")):
        return True
    try:
        signature = inspect.signature(method)
        signature.bind(None, False) if name == "train" else signature.bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x):
        return self.net(x)

    def train(self, steps, opt):
        for _ in range(steps):
            x = torch.randn(16, 4)
            loss = nn.functional.mse_loss(self(x), x[:, :1])
            opt.zero_grad()
            loss.backward()
            opt.step()

net = Net()
net.train(20, torch.optim.SGD(net.parameters(), lr=0.1))
"""

ILLNESS = Illness(
    slug="mode-method-overridden",
    severity="error",
    manual=Manual(
        sees="A Module class defines train or eval that cannot be called as train(mode) or eval().",
        hurts="model.train() and model.eval() no longer reach dropout and batch norm, also from "
        "inside torch.",
        fix="rename the method, for example to fit(); or keep train(self, mode=True) and call "
        "super().train(mode)",
        unless="modes are never switched; renaming costs nothing all the same",
    ),
    judge=judge,
    read=read_mode_overrides,
    runs=Runs(
        _RUN,
        (("def train(", "def fit("), ("net.train(20", "net.fit(20")),
        _RUN.replace("def train(", "def fit(").replace("net.train(20", "net.train()\nnet.fit(20"),
    ),
)
