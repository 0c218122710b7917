"""ScheduleFreeAdamW: AdamW whose weights are an average, so that no schedule has to end."""

from __future__ import annotations

from kudari.compile.notation import (
    Expr,
    Step,
    ema,
    hyper,
    maximum,
    minimum,
    rule,
    running,
    sqrt,
    state,
    where,
)


def average(p: Expr, z: Expr, *, betas: tuple[Expr, Expr]) -> Step:
    """From y, where gradients are taken, to the average x."""
    return Step(p=p + (1 - 1 / betas[0]) * (z - p))


def lookahead(p: Expr, z: Expr, *, betas: tuple[Expr, Expr]) -> Step:
    """From the average x to y, where gradients are taken."""
    return Step(p=p + (1 - betas[0]) * (z - p))


@rule(
    name="ScheduleFreeAdamW",
    source="Defazio et al. 2024, The Road Less Scheduled, algorithm 1",
    counts=False,
    formulas={"eval": average, "train": lookahead},
    requires=(
        (lambda h: h["betas"][0] > 0, "betas[0]={betas[0]!r} is not allowed; expected 0 < betas[0] < 1"),
    ),
    differs=("x is not stored: it is implied by p, which is y while training, and z.",),
    typical="lr 1 to 10 times AdamW's, warmup 5 % of the steps, betas (0.9, 0.95) for language models",
)
def schedule_free_adamw(
    p: Expr,
    g: Expr,
    z: Expr = state("z", init="copy", full_precision=True),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    lr: Expr = hyper(0.0025, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    warmup_steps: Expr = hyper(0, at_least=0),
    r: Expr = hyper(0.0),
    weight_lr_power: Expr = hyper(2.0),
    k: Expr = running(0),
    weight_sum: Expr = running(0.0),
    lr_max: Expr = running(0.0),
) -> Step:
    """Step z as Adam would, average it into x, and take the next gradient between the two."""
    b1, b2 = betas
    w = lr * minimum(1, (k + 1) / warmup_steps)
    peak = maximum(lr_max, w)
    share = (k + 1) ** r * peak**weight_lr_power
    total = weight_sum + share
    c = where(total > 0, share / total, 0)
    v_t = ema(v, g**2, b2)
    v_hat = v_t / (1 - b2 ** (k + 1))
    d = g / (sqrt(v_hat) + eps) + weight_decay * p
    z_t = z - w * d
    # y = b1*x + (1-b1)*z, before and after, without x = (1-c)*x + c*z_t.
    y_t = p + c * (z - p) - w * (1 - b1 * (1 - c)) * d
    return Step(p=y_t, z=z_t, v=v_t, k=k + 1, weight_sum=total, lr_max=peak)
