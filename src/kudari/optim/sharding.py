"""Sharded parameters: a step works on this rank's part of a DTensor, and its sums go over all parts.

FSDP2, tensor parallelism and their mixtures all hold a parameter as a DTensor: a mesh of ranks and, for each
dimension of the mesh, whether the tensor is cut there or repeated. The parts are disjoint, so the sum over a
whole tensor is the sum over the ranks along the dimensions where it is cut, and over no others. Gradient,
states and parameter are cut alike; step counts and numbers of a tensor are plain, and the same on every rank.

The same tensors must have gradients on every rank of their mesh, as FSDP and tensor parallelism see to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kudari.compile.program import Program
from kudari.errors import UnsupportedError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Gradient = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Ranks:
    """The ranks along one dimension of a mesh.

    Attributes:
        group: torch's process group of them.
        device: where the group sends from.
    """

    group: Any
    device: str


class Summing(Protocol):
    """What a pass has added up on this rank.

    Attributes:
        program: whose passes they are.
        rows: for each process group, which tensors it holds parts of.
    """

    @property
    def program(self) -> Program: ...
    @property
    def rows(self) -> Mapping[Ranks, npt.NDArray[np.intp]]: ...

    def sums_here(self) -> npt.NDArray[np.float64]:
        """Sums of the passes so far, float64 (tensors, sums of the program), for the host to change."""
        ...

    def take_sums(self, sums: npt.NDArray[np.float64]) -> None:
        """Go on with these."""
        ...


def is_sharded(x: object) -> TypeGuard[DTensor]:
    """Whether a tensor is a DTensor. Its module takes long to load; where it is not, there is no DTensor."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local(x: Tensor) -> Tensor:
    """This rank's part of a tensor, sharing memory; a plain tensor itself."""
    if not is_sharded(x):
        return x
    # Not `to_local()`: under autograd, and of a parameter, it makes another tensor at every call.
    part: Any = x._local_tensor
    waited: Tensor = part.wait() if hasattr(part, "wait") else part
    return waited


@torch.no_grad()
def whole(x: Tensor) -> Tensor:
    """All of a tensor, gathered from the ranks; a plain tensor itself."""
    if not is_sharded(x):
        return x.detach()
    found: Tensor = x.full_tensor()
    return found.detach()


def placed_like(part: Tensor, p: Tensor) -> Tensor:
    """The whole tensor of which a part lies on this rank, cut like the parameter; a plain one's is itself."""
    if not is_sharded(p):
        return part
    from torch.distributed.tensor import DTensor

    with torch.no_grad():
        return DTensor.from_local(
            part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
        )  # fmt: skip


def cut_like(value: Tensor, p: Tensor) -> Tensor:
    """A tensor cut like the parameter: from the whole one on every rank, or from one cut differently.

    Args:
        value: of the parameter's shape; or of another, which is then not cut at all.
        p: the parameter, sharded or not.

    Returns:
        ``value`` itself where it is already so.
    """
    if not is_sharded(p) or value.shape != p.shape:
        return whole(value) if is_sharded(value) else value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = p.device_mesh, p.placements
    if not is_sharded(value):
        # Every rank cuts its own copy: nothing is sent.
        return distribute_tensor(value.detach(), mesh, placements, src_data_rank=None)
    if value.device_mesh != mesh:
        return distribute_tensor(whole(value), mesh, placements, src_data_rank=None)
    if value.placements == placements:
        return value
    with torch.no_grad():
        return value.redistribute(placements=placements)


def cut_over(p: Tensor) -> tuple[Ranks, ...]:
    """The process groups over which a tensor's parts are added up; none if every rank has it whole."""
    if not is_sharded(p):
        return ()
    mesh: Any = p.device_mesh
    if mesh.get_coordinate() is None:
        return ()
    cut = [i for i, where in enumerate(p.placements) if not where.is_replicate() and mesh.size(i) > 1]
    return tuple(Ranks(mesh.get_group(i), mesh.device_type) for i in cut)


class Cuts:
    """Gradients that had to be sent to be cut like their parameters: each once in a step.

    A rank may have to bind its tensors twice in a step where another does not; the second time sends nothing.
    """

    def __init__(self) -> None:
        self._done: dict[int, tuple[Tensor, Tensor]] = {}

    def part(self, g: Tensor, p: DTensor) -> Tensor:
        """This rank's part of a gradient, cut like the parameter.

        Raises:
            UnsupportedError: the gradient of a sharded parameter is not a DTensor of its shape.
        """
        if not is_sharded(g) or g.shape != p.shape:
            kind = "a DTensor" if is_sharded(g) else "a plain tensor"
            raise UnsupportedError(
                f"The gradient of a sharded parameter of shape {tuple(p.shape)} is {kind} of shape "
                f"{tuple(g.shape)}.",
                why="Which part of the parameter it belongs to cannot be known.",
                fix="Pass a DTensor: DTensor.from_local(g, p.device_mesh, p.placements).",
            )
        if g.placements == p.placements and g.device_mesh == p.device_mesh:
            return local(g)
        if id(g) not in self._done:
            self._done[id(g)] = (g, local(cut_like(g, p)))
        return self._done[id(g)][1]

    def clear(self) -> None:
        """Forget them: the next step's gradients may be the same tensors with other values."""
        self._done.clear()


@dataclass
class Part:
    """This rank's part of a sharded parameter with all that goes with it, as plain tensors.

    Attributes:
        whole: the parameter.
        states: its entry in ``optimizer.state``.
        gradient: what stands for the gradient of the whole.
        cuts: the optimizer's.
        gathered: hold all of it in place of the part, for a rule that looks at rows or at the order of
            elements: every rank gathers the tensors, takes the same step and keeps its part of the result.
        param: the part of the parameter.
        state: parts of the states, by name; the other values of the entry as they are.
        grad: the part of the gradient, held for one step.
    """

    whole: DTensor
    states: dict[str, Any]
    gradient: Gradient
    cuts: Cuts
    gathered: bool = False
    param: Tensor = field(init=False)
    state: dict[str, Any] = field(init=False)
    grad: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.param, self.state = local(self.whole), {}
        if self.gathered:
            self.param = torch.empty_like(self.param)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> bool:
        """Look at the tensors as they are now; False if they must be bound anew."""
        g = self.gradient(self.whole)
        part = None if g is None else self.cuts.part(g, self.whole)
        if self.gathered:
            self._gather(part)
        else:
            self.grad = part
            for key, value in self.states.items():
                self.state[key] = local(value) if isinstance(value, Tensor) else value
        same = self.gathered or local(self.whole) is self.param
        return same and g is not None and self.state.keys() == self.states.keys()

    def _gather(self, part: Tensor | None) -> None:
        """Bring all parts together in tensors that stay the same ones, in new memory."""
        param: Any = self.param
        param.set_(whole(self.whole))
        self.grad = None if part is None else whole(placed_like(part, self.whole))
        for key, value in self.states.items():
            if is_sharded(value):
                held = self.state.setdefault(key, torch.empty_like(local(value)))
                held.set_(whole(value))
            else:
                self.state[key] = value

    @torch.no_grad()
    def release(self) -> None:
        """After a step, let go of the gradient and of what was gathered; this rank's part of it is kept."""
        self.grad = None
        self.cuts.clear()
        if not self.gathered:
            return
        pairs = [(self.whole, self.param), *((x, self.state[k]) for k, x in self.states.items())]
        for mine, held in pairs:
            if is_sharded(mine):
                local(mine).copy_(local(cut_like(held, mine)))
                held.set_(torch.empty(0, dtype=held.dtype, device=held.device))

    def put_back(self) -> None:
        """Write states that were replaced in ``state`` to the optimizer's entry."""
        for key, value in self.state.items():
            old = self.states[key]
            if not isinstance(value, Tensor) or (is_sharded(old) and self.gathered):
                continue
            if value is not local(old):
                self.states[key] = placed_like(value, self.whole) if is_sharded(old) else value

    def clear_gradient(self) -> None:
        """Set a gradient to zero of which the step cleared only a copy."""
        g = self.gradient(self.whole)
        if g is not None and local(g) is not self.grad:
            local(g).zero_()

    def own_gradient(self, _: Tensor) -> Tensor | None:
        """The part of the gradient, in the form that a binding asks for it."""
        return self.grad


def check_placement(name: str, p: Tensor) -> None:
    """Refuse a parameter that is a sum still to be made.

    Raises:
        UnsupportedError: a placement of the parameter is Partial.
    """
    if is_sharded(p) and any(where.is_partial() for where in p.placements):
        raise UnsupportedError(
            f"{name} cannot update a parameter with placements {tuple(p.placements)}.",
            why="Partial means that its value is the sum over ranks, and no rank holds an element of it.",
            fix="Redistribute it to Shard or Replicate before the optimizer is built.",
        )


def rows_of(params: Sequence[Tensor]) -> dict[Ranks, npt.NDArray[np.intp]]:
    """For each process group, in the order of first appearance, which of the tensors it holds parts of."""
    found: dict[Ranks, list[int]] = {}
    for row, p in enumerate(params):
        for ranks in cut_over(p):
            found.setdefault(ranks, []).append(row)
    return {ranks: np.array(rows, dtype=np.intp) for ranks, rows in found.items()}


def add_up_parts(bindings: Iterable[Summing], number: int) -> None:
    """After a pass, make the sums over parts sums over whole tensors: one all-reduce for each process group.

    Every rank ends up with the same bits, so parameters that are repeated stay equal. Sums over the model are
    added up afterwards, from these, on each rank by itself: no tensor is counted twice.

    Args:
        bindings: of all groups of the optimizer, in the same order on every rank.
        number: which pass.
    """
    taking_part = []
    for binding in bindings:
        if number < len(binding.program.passes) and binding.program.passes[number].sums:
            part = binding.program.passes[number]
            columns = np.arange(part.first_sum, part.first_sum + len(part.sums))
            taking_part.append((binding, columns))
    here = {id(b): b.sums_here() for b, _ in taking_part if b.rows}
    for ranks in dict.fromkeys(r for binding, _ in taking_part for r in binding.rows):
        # A tensor that is cut along two dimensions of a mesh is added up along one, then along the other.
        places = [
            (here[id(b)], np.ix_(b.rows[ranks], columns)) for b, columns in taking_part if ranks in b.rows
        ]
        total = _over_ranks(np.concatenate([sums[place].ravel() for sums, place in places]), ranks, "SUM")
        for sums, place in places:
            size = sums[place].size
            sums[place], total = total[:size].reshape(sums[place].shape), total[size:]
    for binding, _ in taking_part:
        if binding.rows:
            binding.take_sums(here[id(binding)])


def on_any_rank(flag: bool, params: Iterable[Tensor]) -> bool:
    """Whether a flag is set on any of the ranks that hold parts of the parameters; the same answer on all.

    Args:
        flag: this rank's.
        params: of the whole optimizer, in the same order on every rank.
    """
    for ranks in dict.fromkeys(r for p in params for r in cut_over(p)):
        flag = bool(_over_ranks(np.array([float(flag)]), ranks, "MAX")[0])
    return flag


def _over_ranks(values: npt.NDArray[np.float64], ranks: Ranks, how: str) -> npt.NDArray[np.float64]:
    """All-reduce float64 numbers."""
    import torch.distributed as dist

    sent = torch.from_numpy(values).to(ranks.device)
    dist.all_reduce(sent, op=getattr(dist.ReduceOp, how), group=ranks.group)
    received: npt.NDArray[np.float64] = sent.cpu().numpy()
    return received
