"""How good are suggested learning rates? Regret against the best of a grid, beside other libraries' finders.

    make bench-tune                   all cells; measurements are kept in runs/bench-tune and reused
    python -m benchmarks.tune --fresh measure everything again

Regret of a cell: (L(suggested) - L(best of grid)) / (L(untrained) - L(best of grid)), L the held-out loss
after a whole run. The grid is √10 apart and widened until its best is interior; a suggestion
that ends below all of it is the best. One that diverges, or is worse than not training, has regret 1.
Where no rate at all is better than not training there is no regret, and the cell is left out.

Two readings: every seed is a cell; and the losses of the seeds are averaged before they are compared, the
best of the grid being one rate for all of them.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tune.cells import OPTIMIZERS, SEEDS, Cell, Store, grid, outcome, untrained
from benchmarks.tune.held_out import HELD_OUT
from benchmarks.tune.more_tasks import MORE_TASKS
from benchmarks.tune.once_held_out import ONCE_HELD_OUT
from benchmarks.tune.rivals import RIVALS
from benchmarks.tune.tasks import TASKS as FIRST_TASKS
from benchmarks.tune.then_held_out import THEN_HELD_OUT

from kudari.tune import recipe
from kudari.tune.learning_rate import find_lr

TASKS = (*FIRST_TASKS, *MORE_TASKS, *ONCE_HELD_OUT, *THEN_HELD_OUT, *HELD_OUT)
FOLDER = Path("runs/bench-tune")
RULE = 4  # which of our rules is kept in the folder: its suggestions are measured again when it changes
OURS, DEFAULT, RECIPE = "kudari tune.lr", "optimizer's default", "recipe alone"


@dataclass(frozen=True)
class Result:
    """One cell, one method."""

    cell: Cell
    method: str
    lr: float
    regret: float
    cost: float = 0.0
    confidence: str = ""
    loss: float = math.inf


@dataclass(frozen=True)
class Measured:
    """One cell: every method, and what they are compared with."""

    results: list[Result]
    start: float
    grid: dict[float, float]


def suggested(cell: Cell) -> dict[str, Any]:
    """Our suggestion and its cost in steps of the run."""
    with cell.trials() as trials:
        found = find_lr(trials)
    return {"lr": found.lr, "cost": found.spent / found.steps, "confidence": found.confidence}


def rival(cell: Cell, name: str) -> float:
    """Another library's suggestion."""
    with cell.trials() as trials:
        return float(RIVALS[name](trials))


def default(cell: Cell) -> float:
    """The optimizer's own learning rate."""
    from kudari import optim

    values = {h.name: h.default for h in optim.get(OPTIMIZERS[cell.optimizer][0]).rule.hypers}
    return float(values["lr"])


def by_recipe(cell: Cell, store: Store) -> dict[str, Any]:
    """Outcome with the recipe's values alone, measured again when they change."""
    from kudari import optim

    model, ((x, _), _) = cell.task.model(cell.seed), cell.task.data()
    task = "regression" if cell.task.loss == "mse" else "classification"
    name = OPTIMIZERS[cell.optimizer][0]
    choices = recipe(
        task,
        model,
        samples=len(x),
        optimizer=name,
        batch_size=cell.task.batch_size,
        steps=cell.task.steps,
        momentum=0.0 if cell.optimizer == "sgd" else None,
        purpose=cell.task.purpose,
    )
    values = {choice.key: choice.value for choice in choices}
    lr, decay = float(values["optimizer.lr"]), float(values["optimizer.weight_decay"])
    extra = {"momentum": 0.9} if cell.optimizer == "momentum" else {}
    muon = cell.optimizer == "muon"
    extra |= {"adamw_lr_ratio": float(values["optimizer.adamw_lr_ratio"])} if muon else {}
    clip = None if values["clip_norm"] == "null" else float(values["clip_norm"])
    made = cell.task.model(cell.seed)  # names of its parameters decide what is decayed

    def make(params: Any) -> Any:
        ids = dict(zip((n for n, _ in made.named_parameters()), params, strict=True))
        groups = [
            {**g, "params": [ids[n] for n in g["param_names"]]}
            for g in optim.groups(made, weight_decay=decay, muon=muon)
        ]
        return optim.get(name)(groups, lr=lr, **extra)

    loss = store.get(
        f"{cell.key} {RECIPE} lr={lr:.6g} wd={decay:.6g} {extra} clip={clip} {values['schedule']}",
        lambda: outcome(cell, lr, optimizer=make, schedule=values["schedule"], clip_norm=clip),
    )
    return {"lr": lr, "loss": loss}


def measure(cell: Cell, store: Store) -> Measured:
    """Every method on one cell; the best is the lowest loss of the grid and of all suggestions."""
    start = store.get(f"{cell.key} untrained", lambda: untrained(cell))
    rates = grid(cell, store, start)
    losses = [*rates.values()]
    found: list[tuple[str, float, float, float, str]] = []

    def note(method: str, lr: float, loss: float, cost: float = 0.0, confidence: str = "") -> None:
        losses.append(loss)
        found.append((method, lr, loss, cost, confidence))

    def run(lr: float) -> float:
        return float(store.get(f"{cell.key} lr={lr:.6g}", lambda: outcome(cell, lr)))

    ours = store.get(f"{cell.key} {OURS} {RULE}", lambda: suggested(cell))
    note(OURS, ours["lr"], run(ours["lr"]), ours["cost"], ours["confidence"])
    for name in RIVALS:
        lr = store.get(f"{cell.key} {name}", lambda name=name: rival(cell, name))
        note(name, lr, run(lr))
    note(DEFAULT, default(cell), run(default(cell)))
    best = min(losses)
    by = by_recipe(cell, store)  # may end below: it also sets the decay
    found.append((RECIPE, by["lr"], by["loss"], 0.0, ""))

    def regret(loss: float) -> float:
        if best >= start:  # nothing to learn
            return math.nan
        return min(1.0, max(0.0, loss - best) / (start - best)) if math.isfinite(loss) else 1.0

    results = [Result(cell, m, lr, regret(loss), cost, sure, loss) for m, lr, loss, cost, sure in found]
    return Measured(results, start, rates)


def averaged(cells: list[Measured]) -> list[Result]:
    """The seeds of one task and optimizer as one cell; a loss above that of no training counts as that."""
    start = statistics.fmean(c.start for c in cells)

    def mean(losses: list[float]) -> float:
        return statistics.fmean(min(loss, c.start) for loss, c in zip(losses, cells, strict=True))

    rates = set.intersection(*(set(c.grid) for c in cells))
    methods = [[c.results[i] for c in cells] for i in range(len(cells[0].results))]
    ends = [mean([r.loss for r in same]) for same in methods]
    names = [same[0].method for same in methods]
    best = min(
        *(mean([c.grid[rate] for c in cells]) for rate in rates),
        *(end for end, name in zip(ends, names, strict=True) if name != RECIPE),
    )
    return [
        Result(cells[0].results[0].cell, name, 0.0, max(0.0, end - best) / (start - best))
        for end, name in zip(ends, names, strict=True)
    ]


def table(results: list[Result], title: str) -> None:
    """Mean, median, worst and share within 10 %, of every method."""
    methods = list(dict.fromkeys(r.method for r in results))
    cells = len({r.cell.key for r in results})
    print(f"\n{title}: {cells} cells\n")
    print("| method | mean | median | worst | within 10 % | at 100 % |\n|---|---|---|---|---|---|")
    for method in methods:
        values = [r.regret for r in results if r.method == method]
        mean, middle, worst = statistics.fmean(values), statistics.median(values), max(values)
        within, lost = sum(v <= 0.1 for v in values) / len(values), sum(v >= 1 for v in values)
        print(f"| {method} | {mean:.1%} | {middle:.1%} | {worst:.1%} | {within:.0%} | {lost} |")


def details(results: list[Result]) -> None:
    """Our regret by task and optimizer, mean and worst of the seeds."""
    names = list(dict.fromkeys(r.cell.optimizer for r in results))
    print(f"\n{OURS}, mean (worst) of {len(SEEDS)} seeds:\n\n| task | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for task in TASKS:
        cells = []
        for name in names:
            values = [
                r.regret for r in results
                if r.method == OURS and r.cell.task is task and r.cell.optimizer == name
            ]  # fmt: skip
            cells.append(f"{statistics.fmean(values):.1%} ({max(values):.1%})" if values else "")
        held = "" if task.frozen_on else " (held out)"
        print(f"| {task.name}{held} | " + " | ".join(cells) + " |")


def by_confidence(results: list[Result]) -> None:
    """Our regret by what the suggestion says of itself."""
    print(f"\n| {OURS} says | cells | mean | worst | within 10 % |\n|---|---|---|---|---|")
    for word in ("high", "medium", "low", "none"):
        values = [r.regret for r in results if r.method == OURS and r.confidence == word]
        if values:
            within = sum(v <= 0.1 for v in values) / len(values)
            mean, worst = statistics.fmean(values), max(values)
            print(f"| {word} | {len(values)} | {mean:.1%} | {worst:.1%} | {within:.0%} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--tasks", nargs="+", choices=[t.name for t in TASKS], help="some tasks only")
    args = parser.parse_args()
    if args.fresh:
        shutil.rmtree(FOLDER, ignore_errors=True)
    store, started = Store(FOLDER / "grid.json"), time.perf_counter()
    results: list[Result] = []
    means: list[Result] = []
    unlearnable = 0
    for task in TASKS:
        if args.tasks and task.name not in args.tasks:
            continue
        print(f"{task.name}: {task.about}", file=sys.stderr, flush=True)
        for name in OPTIMIZERS:
            cells = [measure(Cell(task, name, seed), store) for seed in SEEDS]
            with_regret = [cell for cell in cells if not math.isnan(cell.results[0].regret)]
            unlearnable += len(cells) - len(with_regret)
            results += [r for cell in with_regret for r in cell.results]
            means += averaged(cells) if with_regret else []
    for frozen_on, title in ((True, "Tasks the rule was made on"), (False, "Tasks held out")):
        part = [r for r in results if r.cell.task.frozen_on is frozen_on]
        if part:
            table(part, f"{title}, every seed a cell")
            by_confidence(part)
            table([r for r in means if r.cell.task.frozen_on is frozen_on], f"{title}, seeds averaged")
    details(results)
    ours = [r for r in results if r.method == OURS]
    declined = sum(r.confidence == "none" for r in ours)
    if unlearnable:
        print(f"\nCells left out, as no rate tried ends below the untrained model: {unlearnable}.")
    print(
        f"\n{OURS}: cost at most {max(r.cost for r in ours):.2f} of a run, mean "
        f"{statistics.fmean(r.cost for r in ours):.2f}; no reliable suggestion in {declined} of {len(ours)}. "
        f"This run of the benchmark took {time.perf_counter() - started:.0f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
