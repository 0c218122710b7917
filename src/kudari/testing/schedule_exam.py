"""The exam every schedule sits: ours and yours."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

from kudari.compile.expression import evaluate
from kudari.compile.javascript import javascript
from kudari.compile.latex import latex
from kudari.errors import ArgumentError, KudariError
from kudari.schedules.bound import Bound
from kudari.schedules.curve import Piece
from kudari.schedules.curves.constant import constant
from kudari.schedules.function import Function
from kudari.schedules.length import Length
from kudari.schedules.parse import parse
from kudari.schedules.schedule import Schedule
from kudari.testing.claim import Claim

# Closed forms in float64: a few roundings of numbers near 1.
TOLERANCE = 1e-12
TOTALS = (1, 2, 3, 10, 97, 1000, 2500)

Reference = Callable[[int, int], float]


class ScheduleExamError(AssertionError):
    """The schedule failed the exam; ``claims`` has every claim, in order."""

    def __init__(self, schedule: Schedule, claims: tuple[Claim, ...]) -> None:
        self.claims = claims
        failed = [claim for claim in claims if not claim.passed]
        super().__init__("\n  ".join([f"{schedule} fails:", *(f"{c.name}: {c.detail}" for c in failed)]))


def check_schedule(
    schedule: Schedule | str,
    *,
    totals: Iterable[int] = TOTALS,
    reference: Reference | None = None,
    ends_at: float | None = None,
) -> tuple[Claim, ...]:
    """Sit the exam.

    Args:
        schedule: any schedule, of ours or made with :func:`kudari.schedules.curve`; a text is read.
        totals: lengths of runs to try; choose longer ones for a schedule with lengths in steps.
        reference: the formula written a second time, ``reference(step, total_steps) -> factor``.
        ends_at: the factor that must be reached at the end of the run.

    Returns:
        The claims that were checked: ``finite`` (and never negative), ``pure``, ``expression`` (the fast
        table equals it), ``holds`` (past the end), ``local-time``, ``text`` (reads back), ``prints``,
        ``attach`` (drives a torch optimizer, resumes by its step), and ``reference`` and ``ends-at`` if
        asked for.

    Raises:
        ScheduleExamError: an AssertionError with every claim that failed and its first counterexample.

    Example:
        >>> from kudari.schedules import cosine
        >>> claims = check_schedule(cosine(floor=0.1), ends_at=0.1)
        >>> all(claim.passed for claim in claims)
        True
    """
    schedule, totals = parse(schedule), tuple(totals)
    if not totals:
        raise ArgumentError("There is no length of a run to try.", fix="Pass totals=(10, 1000).")
    checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("finite", lambda: _finite(schedule, totals)),
        ("pure", lambda: _pure(schedule, totals)),
        ("expression", lambda: _expression(schedule, totals)),
        ("holds", lambda: _holds(schedule, totals)),
        ("local-time", lambda: _local_time(schedule, totals)),
        ("text", lambda: _text(schedule)),
        ("prints", lambda: _prints(schedule, totals)),
        ("attach", lambda: _attach(schedule, totals)),
    ]
    if reference is not None:
        checks.append(("reference", lambda: _reference(schedule, totals, reference)))
    if ends_at is not None:
        checks.append(("ends-at", lambda: _ends_at(schedule, totals, ends_at)))
    claims = tuple(_ask(name, check) for name, check in checks)
    if not all(claim.passed for claim in claims):
        raise ScheduleExamError(schedule, claims)
    return claims


def _ask(name: str, check: Callable[[], Iterator[str]]) -> Claim:
    try:
        detail = next(check(), "")
    except KudariError as error:
        detail = str(error)
    except Exception as error:  # of a schedule's own code: it fails, whatever it raises
        detail = f"{type(error).__name__}: {error}"
    return Claim(name, not detail, detail)


def _steps(total: int) -> list[int]:
    return sorted({*range(min(total, 200) + 1), *range(0, total + 1, max(1, total // 400)), total - 1, total})


def _finite(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    for total in totals:
        bound = schedule.bind(total)
        for step in range(total + 1):
            if not 0 <= bound(step) < math.inf:
                yield f"factor({step}, total_steps={total}) = {bound(step)}"


def _pure(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    for total in totals:
        first, second = schedule.bind(total), schedule.bind(total)
        if not first.calls and first.expression is not second.expression:
            yield f"two expressions for one run: {first.expression} and {second.expression}"
        forward = [first(step) for step in _steps(total)]
        backward = [second(step) for step in reversed(_steps(total))][::-1]
        for step, a, b in zip(_steps(total), forward, backward, strict=True):
            if not _same(a, b):
                yield f"factor({step}, total_steps={total}) is {a}, and {b} when asked in another order"


def _expression(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    for total in totals:
        bound = schedule.bind(total)
        for step in _steps(total):
            want = _by_hand(bound, step)
            if not _close(bound(step), want):
                yield f"factor({step}, total_steps={total}) = {bound(step)}, the expression says {want}"


def _by_hand(bound: Bound, step: int) -> float:
    """The factor without the table: one scalar operation after the other."""
    values = {"t": float(step)}
    if bound.plateau is not None:
        values["plateau"] = bound.plateau.factor
    for name, (function, local) in bound.calls.items():
        inner = max(0, int(evaluate(local, {"t": float(step)})))
        asked = range(1, inner + 1) if function.cumulative else (inner,)
        values[name] = math.prod(float(function.call(i)) for i in asked)
    return evaluate(bound.expression, values)


def _holds(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    for total in totals:
        bound = schedule.bind(total)
        for step in (total + 1, total + 2, 2 * total, 10 * total + 7):
            if not _same(bound(step), bound(total)):
                yield f"factor({step}, total_steps={total}) = {bound(step)}, not {bound(total)} as at the end"


def _local_time(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    """Behind seven other steps, the schedule does what it does in a run of its own."""
    if any(_part_of_run(part) for part in schedule.parts()):
        return
    for total in totals:
        alone, behind = schedule.bind(total), (constant(length=7) >> schedule).bind(total + 7)
        for step in _steps(total):
            if not _close(alone(step), behind(step + 7)):
                yield f"step {step} of {total} is {alone(step)}, behind 7 other steps {behind(step + 7)}"


def _part_of_run(schedule: Schedule) -> bool:
    """Whether it has a length that grows with the whole run, so that it may differ in a longer one."""
    length = dict(schedule.values).get("length") if isinstance(schedule, Piece) else None
    return isinstance(length, Length) and length.unit == "percent"


def _text(schedule: Schedule) -> Iterator[str]:
    parts = list(schedule.parts())
    if any(isinstance(part, Function) for part in parts):
        return  # A Python function has no text, and says so.
    own = {part.curve.name: part.curve for part in parts if isinstance(part, Piece)}

    def maker(name: str, *args: object, **kwargs: object) -> Schedule:
        return own[name].make(args, kwargs)

    again = parse(str(schedule), {name: functools.partial(maker, name) for name in own})
    if again != schedule:
        yield f"the text {str(schedule)!r} reads back as {str(again)!r}, which is another schedule"


def _prints(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    expression = schedule.bind(max(totals)).expression
    for name, text in (("LaTeX", latex(expression)), ("JavaScript", javascript(expression))):
        if text.count("(") != text.count(")") or text.count("{") != text.count("}"):
            yield f"{name} with unbalanced parentheses: {text}"


def _attach(schedule: Schedule, totals: tuple[int, ...]) -> Iterator[str]:
    import torch

    def make() -> torch.optim.Optimizer:
        return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)

    total = max((t for t in totals if t <= 200), default=min(totals))
    bound, optimizer = schedule.bind(total), make()
    scheduler = schedule.attach(optimizer, total)
    if scheduler.last_epoch != 0:
        yield f"the constructor went to step {scheduler.last_epoch}"
    for step in range(total + 2):
        seen, want = optimizer.param_groups[0]["lr"], 0.5 * bound(step)
        if not _same(seen, want):
            yield f"at step {step} of {total} the learning rate is {seen}, not {want}"
        resumed = make()
        if step % max(1, total // 5) == 0:
            schedule.attach(resumed, total).load_state_dict(scheduler.state_dict())
            seen = resumed.param_groups[0]["lr"]
            if not _same(seen, want):
                yield f"resumed at step {step} the learning rate is {seen}, not {want}"
        optimizer.step()
        scheduler.step()


def _reference(schedule: Schedule, totals: tuple[int, ...], reference: Reference) -> Iterator[str]:
    for total in totals:
        bound = schedule.bind(total)
        for step in _steps(total):
            want = reference(step, total)
            if not _close(bound(step), want):
                yield f"factor({step}, total_steps={total}) = {bound(step)}, the reference says {want}"


def _ends_at(schedule: Schedule, totals: tuple[int, ...], ends_at: float) -> Iterator[str]:
    for total in totals:
        last = schedule.bind(total)(total)
        if not _close(last, ends_at):
            yield f"factor({total}, total_steps={total}) = {last}, not {ends_at}"


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _close(a: float, b: float) -> bool:
    return _same(a, b) or abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))
