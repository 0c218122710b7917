"""ScheduleFreeSGD: momentum SGD whose weights are an average, so that no schedule has to end."""

from __future__ import annotations

from kudari.compile.notation import Expr, Step, hyper, maximum, minimum, rule, running, state, where


def average(p: Expr, z: Expr, *, momentum: Expr) -> Step:
    """From y, where gradients are taken, to the average x."""
    return Step(p=p + (1 - 1 / momentum) * (z - p))


def lookahead(p: Expr, z: Expr, *, momentum: Expr) -> Step:
    """From the average x to y, where gradients are taken."""
    return Step(p=p + (1 - momentum) * (z - p))


@rule(
    name="ScheduleFreeSGD",
    source="Defazio et al. 2024, The Road Less Scheduled, equations 1 to 3",
    counts=False,
    formulas={"eval": average, "train": lookahead},
    differs=("x is not stored: it is implied by p, which is y while training, and z.",),
    typical="lr 10 to 50 times that of scheduled SGD with momentum, momentum 0.9",
)
def schedule_free_sgd(
    p: Expr,
    g: Expr,
    z: Expr = state("z", init="copy", full_precision=True),
    *,
    lr: Expr = hyper(1.0, at_least=0),
    momentum: Expr = hyper(0.9, above=0, below=1),
    weight_decay: Expr = hyper(0.0, at_least=0),
    warmup_steps: Expr = hyper(0, at_least=0),
    r: Expr = hyper(0.0),
    weight_lr_power: Expr = hyper(2.0),
    k: Expr = running(0),
    weight_sum: Expr = running(0.0),
    lr_max: Expr = running(0.0),
) -> Step:
    """Step z at the full rate, average it into x, and take the next gradient between the two."""
    w = lr * minimum(1, (k + 1) / warmup_steps)
    peak = maximum(lr_max, w)
    share = (k + 1) ** r * peak**weight_lr_power
    total = weight_sum + share
    c = where(total > 0, share / total, 0)
    d = g + weight_decay * p
    z_t = z - w * d
    # y = momentum*x + (1-momentum)*z, before and after, without x = (1-c)*x + c*z_t.
    y_t = p + c * (z - p) - w * (1 - momentum * (1 - c)) * d
    return Step(p=y_t, z=z_t, k=k + 1, weight_sum=total, lr_max=peak)
