"""Methods that some optimizers have beside ``step``: one class for each formula a rule may declare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from kudari.errors import ArgumentError, HyperError, UnsupportedError
from kudari.optim import sharding
from kudari.optim.members import own_gradient
from kudari.optim.optimizer import RuleOptimizer
from kudari.optim.states import real, state_dtype

_T = TypeVar("_T")


class AveragingOptimizer(RuleOptimizer):
    """An optimizer that takes gradients at one point and is evaluated at another; starts in eval mode."""

    _group_values: ClassVar[dict[str, Any]] = {"train_mode": False}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it is in the mode of the others."""
        if isinstance(param_group, dict) and self.param_groups:
            param_group.setdefault("train_mode", self.param_groups[0]["train_mode"])
        super().add_param_group(param_group)

    def train(self) -> None:
        """Move the parameters to where gradients are taken; no effect if they are there."""
        self._switch("train", True)

    def eval(self) -> None:
        """Move the parameters to the average, for evaluation and saving; no effect if they are there."""
        self._switch("eval", False)

    def _switch(self, formula: str, train_mode: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] is not train_mode:
                self._apply(formula, group, self._moved)
                group["train_mode"] = train_mode

    def _moved(self, p: Tensor) -> Tensor | None:
        """Something for ``g``, which is not read, if the two points of this tensor may differ."""
        return p.detach() if self.state.get(p) else None

    def step(self, closure: Callable[[], _T] | None = None) -> _T | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: recomputes the loss; called once, with gradients enabled.

        Returns:
            What the closure returned, or None.

        Raises:
            UnsupportedError: the optimizer is in eval mode; it is a ``RuntimeError``.
        """
        if not all(group["train_mode"] for group in self.param_groups):
            raise UnsupportedError(
                f"{self.rule.name} is in eval mode, where it cannot step.",
                why="The parameters are at the average, and this step's gradients were taken there.",
                fix="Call optimizer.train() before training, optimizer.eval() before evaluating or saving.",
            )
        return super().step(closure)

    step.hooked = True  # type: ignore[attr-defined]


class GradientHessianOptimizer(RuleOptimizer):
    """An optimizer that estimates the curvature from gradients of a loss on sampled labels."""

    def update_hessian(self) -> None:
        """Take the gradients in ``p.grad`` into the curvature; call it about every tenth step.

        The gradients are those of the loss on labels **sampled** from the model's own predictions, averaged
        over ``bs`` samples. Nothing moves and no step is counted.
        """
        for group in self.param_groups:
            self._apply("hessian_of_gradient", group, own_gradient)

    def step(self, closure: Callable[[], _T] | None = None, bs: float | None = None) -> _T | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: recomputes the loss; called once, with gradients enabled.
            bs: number of samples, for this step in place of the groups' own.

        Returns:
            What the closure returned, or None.
        """
        if bs is None:
            return super().step(closure)
        if not bs > 0:
            raise HyperError(f"{self.rule.name}: bs={bs!r} is not allowed; expected bs > 0")
        own = [group["bs"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                group["bs"] = bs
            return super().step(closure)
        finally:
            for group, value in zip(self.param_groups, own, strict=True):
                group["bs"] = value

    step.hooked = True  # type: ignore[attr-defined]


class EstimatedHessianOptimizer(RuleOptimizer):
    """An optimizer that estimates the curvature by products with the Hessian."""

    def update_hessian(
        self,
        loss: Tensor | None = None,
        *,
        hessian: Iterable[Tensor | None] | None = None,
        n_probes: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        """Take an estimate of the Hessian's diagonal into the curvature; call it about every tenth step.

        Nothing moves, no step is counted, and ``p.grad`` is neither read nor written.

        Args:
            loss: one number with its graph; the graph cannot be used again.
            hessian: in place of a loss, an estimate for each tensor in the order of the groups; None
                skips one.
            n_probes: how many random vectors to average over.
            generator: where they are drawn from; by default torch's generator of the device. With sharded
                parameters it must be in the same state on every rank.

        Raises:
            ArgumentError: not exactly one of ``loss`` and ``hessian``, or estimates that do not fit.
        """
        tensors = [p for group in self.param_groups for p in group["params"]]
        if (loss is None) is (hessian is None):
            raise ArgumentError(
                f"{self.rule.name}.update_hessian needs a loss or ready estimates, and not both.",
                fix="Pass a loss that still has its graph, or hessian=[...], one estimate for each tensor.",
            )
        if n_probes < 1:
            raise ArgumentError(
                f"{self.rule.name}: n_probes={n_probes!r} is not allowed; expected n_probes >= 1"
            )
        if loss is not None:
            probes = [g["probe"] for g in self.param_groups for _ in g["params"]]
            found = estimate_diagonal(loss, tensors, probes, n_probes, generator)
        else:
            found = list(hessian or ())
        shapes = [None if e is None else e.shape for e in found]
        if len(found) != len(tensors) or any(
            s is not None and s != p.shape for s, p in zip(shapes, tensors, strict=False)
        ):
            raise ArgumentError(
                f"{self.rule.name}: hessian has {len(found)} estimates for {len(tensors)} tensors, "
                "or one of another shape than its tensor.",
                fix="Pass one estimate for each tensor, in the order of the groups, None to skip one.",
            )
        table = dict(zip(tensors, found, strict=True))
        for group in self.param_groups:
            self._apply("hessian_of_estimate", group, table.get)


def estimate_diagonal(
    loss: Tensor,
    tensors: Sequence[Tensor],
    probes: Sequence[str],
    n_probes: int,
    generator: torch.Generator | None,
) -> list[Tensor | None]:
    """Hutchinson's estimate of the diagonal of the Hessian: the mean of z*(Hz) over random z.

    Args:
        loss: one number with its graph; the graph cannot be used again.
        tensors: the Hessian is that of the loss by these.
        probes: for each tensor ``"rademacher"`` or ``"gaussian"``.
        n_probes: how many z.
        generator: where z is drawn from.

    Returns:
        One estimate for each tensor, float32 at least; None where the loss does not depend on it.
    """
    wanted = [i for i, p in enumerate(tensors) if p.requires_grad]
    inputs = [tensors[i] for i in wanted]
    with torch.enable_grad():
        first = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
    totals = {
        i: torch.zeros_like(p, dtype=state_dtype(p.dtype), requires_grad=False)
        for i, p, g in zip(wanted, inputs, first, strict=True)
        if g is not None
    }
    curved = [(i, g) for i, g in zip(wanted, first, strict=True) if g is not None and g.requires_grad]
    for probe in range(n_probes if curved else 0):
        z = {i: _draw(tensors[i], probes[i], generator) for i, _ in curved}
        products = torch.autograd.grad(
            [g for _, g in curved],
            [tensors[i] for i in totals],
            [z[i] for i, _ in curved],
            retain_graph=probe < n_probes - 1,
            allow_unused=True,
        )
        for i, product in zip(totals, products, strict=True):
            if product is not None and i in z:
                real(totals[i]).add_(real(z[i]) * real(product), alpha=1 / n_probes)
    return [totals.get(i) for i in range(len(tensors))]


def _draw(p: Tensor, probe: str, generator: torch.Generator | None) -> Tensor:
    """A random direction like a tensor: signs, or normal numbers.

    Of a sharded one every rank draws the whole and keeps its part, so that generators in the same state give
    the direction that one process would take, and replicas agree.
    """
    cut = sharding.is_sharded(p)
    z = torch.empty(p.shape, dtype=p.dtype, device=p.device) if cut else torch.empty_like(p.detach())
    if probe == "gaussian":
        real(z).normal_(generator=generator)
    else:
        real(z).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    return sharding.cut_like(z, p)


# The class of a rule with such a formula; see ``Rule.formulas``.
FACES: dict[str, type[RuleOptimizer]] = {
    "eval": AveragingOptimizer,
    "hessian_of_gradient": GradientHessianOptimizer,
    "hessian_of_estimate": EstimatedHessianOptimizer,
}
