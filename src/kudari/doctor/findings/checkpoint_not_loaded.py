"""A checkpoint was loaded, and next to nothing of it arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import few, place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_MATCH = 0.1


def judge(run: RunFacts) -> Verdict:
    """Under 10 % of both sides match, or the model was loaded with its own tensors."""
    loads = run.data.loaded
    if not loads:
        return Skipped("load_state_dict was not called")
    found = []
    for load in loads:
        evidence = {
            "count": 1,
            "first_step": 0,
            "matched": load["matched"] / load["own"],
            "missing": load["missing"],
            "unexpected": load["unexpected"],
        }
        if load["same_storage"] and not load["trained"]:
            message = "load_state_dict is given the model's own tensors: nothing was loaded"
            fix = "compare the checkpoint's keys with model.state_dict().keys() before filtering"
        elif load["matched"] < MIN_MATCH * load["own"] and load["matched"] < MIN_MATCH * load["given"]:
            share = 100 * load["matched"] / load["own"]
            message = f"load_state_dict filled {share:.0f} % of the model: the names do not match"
            fix = _fix(load)
        else:
            continue
        found.append(
            Found(
                message,
                place(load["site"]),
                evidence,
                fix,
                label=f"missing: {few(load['missing'], 2) or 'none'}",
                subjects=frozenset([load["model"]]),
            )
        )
    return found


def _fix(load: dict[str, Any]) -> str:
    for given in load["unexpected"]:
        for own in load["missing"]:
            if given.endswith("." + own):
                prefix = given[: -len(own)]
                return f"strip the prefix: {{k.removeprefix({prefix!r}): v for k, v in state.items()}}"
            if own.endswith("." + given):
                prefix = own[: -len(given)]
                return f"add the prefix: {{{prefix!r} + k: v for k, v in state.items()}}"
    return "print what load_state_dict(..., strict=False) returns: missing_keys and unexpected_keys"


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
source = nn.Linear(4, 1)
state = {"module." + name: value for name, value in source.state_dict().items()}
net = nn.Linear(4, 1)
net.load_state_dict(state, strict=False)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(20):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="checkpoint-not-loaded",
    severity="error",
    manual=Manual(
        sees="load_state_dict matches, by name and shape, under 10 % of the elements of both sides; "
        "or the tensors it "
        "is given are the model's own.",
        hurts="With strict=False torch says nothing, and training starts from random weights.",
        fix="strip or add the prefix so that names match, and print missing_keys and unexpected_keys",
        unless="the state belongs to a small part that is replaced anyway",
    ),
    judge=judge,
    runs=Runs(_RUN, (('"module." + name', "name"),), _RUN.replace('"module." + name', "name")),
)
