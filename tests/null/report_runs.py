"""Run folders with curves that look real, for the tests of the report.

Draw some to look at: ``PYTHONPATH=src python -m tests.null.report_runs FOLDER``.
"""

from __future__ import annotations

import base64
import math
import random
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

from kudari.record import Choice, Decayed, Diagnosis, Evaluation, Facts, MetricsWriter, Mistake, RunDir

ADAMW = r"""\begin{aligned}
m_t &= \beta_1 \cdot m_{t-1} + \left( 1 - \beta_1 \right) \cdot g_t \\
v_t &= \beta_2 \cdot v_{t-1} + \left( 1 - \beta_2 \right) \cdot g_t^{2} \\
\hat{m}_t &= \frac{m_t}{1 - \beta_1^{t}} \qquad \hat{v}_t = \frac{v_t}{1 - \beta_2^{t}} \\
p_t &= p_{t-1} - \eta \cdot \left( \frac{\hat{m}_t}{\sqrt{\hat{v}_t} + \epsilon} + \lambda p_{t-1} \right)
\end{aligned}"""

RECIPE = (
    Choice("optimizer", "adamw", "The safest first choice: robust to the scale of gradients.",
           "Loshchilov and Hutter, 2019"),
    Choice("optimizer.lr", "0.003", "Range test: loss fell fastest just below 0.006.", "measured"),
    Choice("optimizer.weight_decay", "0.05", "Small data set: more decay than the usual 0.01 costs nothing.",
           "compared on held-out folds"),
    Choice("schedule", "warmup(2%) >> cosine(floor=0.01)", "Warm-up keeps Adam's first steps small.",
           "Loshchilov and Hutter, 2017"),
    Choice("train.epochs", "30", "", "", "you"),
    Choice("train.batch_size", "64", "About 20 steps an epoch: the averages settle.", "rule of thumb"),
    Choice("seed", "7", "", "", "you"),
)  # fmt: skip

ENVIRONMENT = {
    "kudari": "0.1.0", "python": "3.12.4", "torch": "2.13.0", "llvmlite": "0.46.0", "numpy": "2.3.1",
    "device": "cpu, 8 cores, AVX-512", "threads": "1", "platform": "Linux 6.8 x86_64", "seed": "7",
}  # fmt: skip


def png(rows: list[list[int]]) -> str:
    """Grey pixels (0 to 255) as a PNG in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def glyph(seed: int, size: int = 8) -> str:
    """A small picture of a blurred stroke."""
    dice = random.Random(seed)
    turn, x0, y0 = dice.uniform(0, math.pi), dice.uniform(2, size - 2), dice.uniform(2, size - 2)
    rows = []
    for y in range(size):
        off = [abs((x - x0) * math.sin(turn) + (y - y0) * math.cos(turn)) for x in range(size)]
        rows.append([round(255 * math.exp(-o * o)) for o in off])
    return png(rows)


def facts(name: str = "digits-3", classes: int = 10, **changes: object) -> Facts:
    """A finished classification."""
    dice = random.Random(1)
    names = tuple(str(i) for i in range(classes))
    confusion = [[0] * classes for _ in range(classes)]
    for i in range(classes):
        confusion[i][i] = dice.randint(28, 37)
        for _ in range(dice.choice((0, 0, 1, 1, 2, 5))):
            confusion[i][(i + dice.choice((1, 2, 5))) % classes] += 1
    worst = tuple(
        Mistake(
            f"{37 * i % 360}",
            names[i % classes],
            names[(i + 1) % classes],
            4.1 - 0.2 * i,
            0.97 - 0.03 * i,
            glyph(i),
        )
        for i in range(14)
    )
    shapes = (("0.weight", (128, 64)), ("0.bias", (128,)), ("2.weight", (10, 128)), ("2.bias", (10,)))
    decay = tuple(
        Decayed(
            n, s, 0.05 if len(s) > 1 else 0.0, "matrix" if len(s) > 1 else "bias: decay would only shift it"
        )
        for n, s in shapes
    )
    whole = Facts(
        name=name, title=f"Handwritten digits, {classes} classes", task="classification", status="finished",
        command="kudari train --data digits --epochs 30 --seed 7 --out runs",
        data=("1,437 training and 360 validation samples of 8×8 pixels.",
              "Pixels scaled from 0..16 to 0..1."),
        model="mlp 64-128-10, 9,610 parameters",
        optimizer="AdamW(lr=0.003, b1=0.9, b2=0.999, eps=1e-08, weight_decay=0.05)",
        steps=690, epochs=30.0, seconds=2.14, samples_per_second=20143.0, formula=ADAMW,
        metrics={"valid_accuracy": 0.9778, "valid_loss": 0.0823, "train_loss": 0.00412},
        recipe=RECIPE, decay=decay, environment=ENVIRONMENT,
        evaluation=Evaluation(names, tuple(map(tuple, confusion)), (), worst),
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def write_run(
    folder: Path, what: Facts, *, lines: int = 690, valid_every: int = 23, broken_at: int = 0
) -> RunDir:
    """A run folder with ``lines`` training lines, and NaN from step ``broken_at`` if that is not 0."""
    run = RunDir(folder / what.name).make()
    what.write(run.facts)
    (run.checkpoints / "step-300").mkdir(exist_ok=True)
    run.config.write_text(
        "model:\n  kind: mlp\n  widths: [128]\noptimizer:\n  name: adamw\n  lr: 0.003\n", encoding="utf-8"
    )
    dice = random.Random(0)
    run.metrics.unlink(missing_ok=True)
    with MetricsWriter(run.metrics) as log:
        log.write("event", 0, {"name": "started", "text": "seed 7"})
        for step in range(1, lines + 1):
            done = step / lines
            lr = 0.003 * min(done / 0.02, 0.5 * (1 + math.cos(math.pi * done)))
            loss = 2.3 * math.exp(-9 * done**0.6) * math.exp(dice.gauss(0, 0.25)) + 0.002
            broken = broken_at and step >= broken_at
            values = {"epoch": 30 * done, "seconds": 2.14 * done, "loss": math.nan if broken else loss,
                      "accuracy": max(0.1, 1 - 0.35 * loss), "lr": lr,
                      "grad_norm": math.inf if broken else 3 * loss**0.7 * math.exp(dice.gauss(0, 0.3)),
                      "samples_per_second": 20143 + dice.gauss(0, 900)}  # fmt: skip
            log.write("train", step, values)
            if valid_every and step % valid_every == 0:
                floor = 0.075 + 0.03 * done
                held = math.nan if broken else 2.2 * math.exp(-9 * done**0.6) + floor + dice.gauss(0, 0.004)
                log.write("valid", step, {"epoch": 30 * done, "seconds": 2.14 * done, "loss": held,
                                          "accuracy": 0.98 - 0.8 * math.exp(-11 * done**0.6)})  # fmt: skip
    return run


def regression(name: str = "houses-1") -> Facts:
    """A finished regression with a table of mistakes."""
    dice = random.Random(3)
    truth = [min(5.0, max(0.15, dice.lognormvariate(0.6, 0.5))) for _ in range(900)]
    pairs = tuple((t, max(0.0, t * 0.88 + 0.25 + dice.gauss(0, 0.3))) for t in truth)
    worst = sorted(pairs, key=lambda p: -abs(p[0] - p[1]))[:12]
    table = tuple(
        Mistake(f"row {101 + 17 * i}", f"{t:.2f}", f"{p:.2f}", (t - p) ** 2) for i, (t, p) in enumerate(worst)
    )
    return facts(
        name, title="House prices, 8 columns", task="regression", model="mlp 8-64-64-1, 4,801 parameters",
        data=("16,512 training and 4,128 validation rows.", "Target: median price in 100,000 dollars."),
        metrics={"valid_rmse": 0.5312, "valid_r2": 0.784}, decay=(),
        evaluation=Evaluation(residuals=pairs, mistakes=table),
        diagnoses=(
            Diagnosis("loss-mean-over-padding", "warning", "The loss averages over 312 padded rows.",
                      "Pass a mask, or drop the last batch.", "train.py", 41),
            Diagnosis("unscaled-inputs", "note", "Column 'population' has a standard deviation of 1,132.",
                      "Standardise it, or let kudari's pipeline do it."),
        ),
    )  # fmt: skip


def trained_digits(folder: Path) -> RunDir:
    """A run that really happened: an MLP in numpy on scikit-learn's digits, with AdamW written out."""
    import numpy as np
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    dice = np.random.default_rng(7)
    order = dice.permutation(len(x))
    x, y = x[order] / 16.0, y[order]
    (xt, yt), (xv, yv) = (x[:1437], y[:1437]), (x[1437:], y[1437:])
    weights = [dice.normal(0, 0.18, (64, 128)), np.zeros(128), dice.normal(0, 0.12, (128, 10)), np.zeros(10)]
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]

    def forward(inputs):
        hidden = np.maximum(0, inputs @ weights[0] + weights[1])
        scores = hidden @ weights[2] + weights[3]
        odds = np.exp(scores - scores.max(1, keepdims=True))
        return hidden, odds / odds.sum(1, keepdims=True)

    what = facts("digits-1")
    run = RunDir(folder / what.name).make()
    run.config.write_text(
        "data: digits\nmodel:\n  kind: mlp\n  widths: [128]\noptimizer:\n  name: adamw\n", encoding="utf-8"
    )
    steps = 690
    run.metrics.unlink(missing_ok=True)
    with MetricsWriter(run.metrics) as log:
        for step in range(1, steps + 1):
            pick = dice.integers(0, len(xt), 64)
            hidden, odds = forward(xt[pick])
            loss = -np.log(odds[np.arange(64), yt[pick]] + 1e-12).mean()
            d = (odds - np.eye(10)[yt[pick]]) / 64
            dh = (d @ weights[2].T) * (hidden > 0)
            grads = [xt[pick].T @ dh, dh.sum(0), hidden.T @ d, d.sum(0)]
            lr = 0.003 * min(step / 14, 0.505 + 0.495 * math.cos(math.pi * step / steps))
            norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
            for w, g, mean, square in zip(weights, grads, m, v, strict=True):
                mean += 0.1 * (g - mean)
                square += 0.001 * (g * g - square)
                w -= lr * (
                    mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
                    + 0.05 * w * (w.ndim > 1)
                )
            speed = 20143 + 900 * dice.standard_normal()
            log.write("train", step, {"epoch": step / 23, "seconds": step * 0.0031,
                                      "loss": float(loss), "lr": lr,
                                      "grad_norm": norm, "samples_per_second": speed,
                                      "accuracy": float((odds.argmax(1) == yt[pick]).mean())})  # fmt: skip
            if step % 23 == 0:
                odds = forward(xv)[1]
                held = -np.log(odds[np.arange(len(xv)), yv] + 1e-12)
                log.write("valid", step, {"epoch": step / 23, "loss": float(held.mean()),
                                          "accuracy": float((odds.argmax(1) == yv).mean())})  # fmt: skip
    guess = odds.argmax(1)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (yv, guess), 1)
    wrong = sorted(np.flatnonzero(guess != yv), key=lambda i: -held[i])
    worst = tuple(
        Mistake(f"{i}", str(yv[i]), str(guess[i]), float(held[i]), float(odds[i].max()),
                png((xv[i].reshape(8, 8) * 255).astype(int).tolist()))
        for i in wrong
    )  # fmt: skip
    done = Evaluation(tuple("0123456789"), tuple(tuple(map(int, r)) for r in confusion), (), worst)
    final = {
        "valid_accuracy": float((guess == yv).mean()),
        "valid_loss": float(held.mean()),
        "train_loss": float(loss),
    }
    replace(what, evaluation=done, metrics=final).write(run.facts)
    return run


if __name__ == "__main__":
    from kudari.report import write_report

    target = Path(sys.argv[1])
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    fifty = facts("birds-2", 50, title="Birds, 50 species", status="interrupted", steps=312, epochs=13.6)
    wide = facts("cifar-4", title="Small photographs, 10 classes")
    assert wide.evaluation is not None
    runs = [
        trained_digits(target),
        write_run(target, regression()),
        write_run(target, fifty, lines=312),
        write_run(target, facts("two-1", 2, status="failed"), broken_at=400),
        write_run(target, facts("long-1", 26), lines=20_000, valid_every=500),
        write_run(target, replace(wide, evaluation=replace(wide.evaluation, classes=tuple(names)))),
    ]
    for made in runs:
        print(write_report(made), made.report.stat().st_size)
