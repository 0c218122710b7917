"""Taking over a checkpoint: by name where both sides have names, and without losing precision.

Differs: torch casts moments to the parameter's dtype, so bf16 parameters lose fp32 moments, and it ignores
names, so that another order of the same parameters is misassigned in silence.
"""

from __future__ import annotations

import copy
import functools
from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import kudari.rules
from kudari.compile.discover import discover
from kudari.compile.notation import Rule
from kudari.compile.rounding import KAHAN
from kudari.errors import CheckpointError, HyperError, did_you_mean
from kudari.optim import bitsandbytes, hypers, running, sharding
from kudari.optim.states import convert, is_coded, kept_as, state_dtype

if TYPE_CHECKING:
    from kudari.optim.optimizer import RuleOptimizer


class StateMismatchError(CheckpointError, ValueError):
    """A checkpoint whose groups or parameter names are not this optimizer's."""


def load(optimizer: RuleOptimizer, state_dict: dict[str, Any]) -> None:
    """Replace an optimizer's state and group values by a checkpoint's.

    Args:
        optimizer: left as it was if the checkpoint does not fit.
        state_dict: as from ``state_dict()`` of this class or of torch's class of the same name; not kept.

    Raises:
        StateMismatchError: groups, their values, names or states do not fit.
    """
    state_dict = state_dict.copy()
    for hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        state_dict = hook(optimizer, state_dict) or state_dict
    saved_groups: list[dict[str, Any]] = copy.deepcopy(state_dict["param_groups"])
    matched = _match(optimizer.param_groups, saved_groups)
    state: defaultdict[Any, Any] = defaultdict(dict)
    groups = [_merge(ours, saved) for ours, saved in zip(optimizer.param_groups, saved_groups, strict=True)]
    _check_values(optimizer.rule, groups)
    group_of = {p: group for group in groups for p in group["params"]}
    of_parameters = set(chain.from_iterable(g["params"] for g in saved_groups))
    for key, value in state_dict["state"].items():
        if key in matched:
            state[matched[key]] = _take_all(optimizer.rule, matched[key], group_of[matched[key]], value)
        elif key not in of_parameters:  # states of parameters that are not here would be taken for others'
            state[key] = copy.deepcopy(value)
    optimizer.__setstate__({"state": state, "param_groups": groups})
    for after in optimizer._optimizer_load_state_dict_post_hooks.values():
        after(optimizer)


def _match(groups: list[dict[str, Any]], saved: list[dict[str, Any]]) -> dict[Any, Tensor]:
    """Map a checkpoint's parameter numbers to our tensors."""
    if len(groups) != len(saved):
        raise StateMismatchError(
            f"The checkpoint has {len(saved)} parameter groups, this optimizer has {len(groups)}.",
            fix="Build the optimizer with the groups it had when the checkpoint was written.",
        )
    if all("param_names" in g for g in chain(groups, saved)):
        return _match_by_name(groups, saved)
    for index, (ours, theirs) in enumerate(zip(groups, saved, strict=True)):
        if len(ours["params"]) != len(theirs["params"]):
            raise StateMismatchError(
                f"Group {index} has {len(theirs['params'])} parameters in the checkpoint and "
                f"{len(ours['params'])} here.",
                fix="Build the optimizer from the same model, or pass (name, parameter) pairs on both sides.",
            )
    ours_flat = chain.from_iterable(g["params"] for g in groups)
    return dict(zip(chain.from_iterable(g["params"] for g in saved), ours_flat, strict=True))


def _check_values(rule: Rule, groups: list[dict[str, Any]]) -> None:
    try:
        for group in groups:
            hypers.check(rule, {**group, **dict(rule.fixed)})  # those of an Adam do not matter to an AdamW
    except HyperError as error:
        raise StateMismatchError(
            f"The checkpoint's values are not for this class: {error.what}.",
            fix=f"Load a checkpoint of {rule.name}, or begin with fresh states.",
        ) from error


def _match_by_name(groups: list[dict[str, Any]], saved: list[dict[str, Any]]) -> dict[Any, Tensor]:
    numbers = {n: i for g in saved for n, i in zip(g["param_names"], g["params"], strict=True)}
    matched: dict[Any, Tensor] = {}
    for group in groups:
        for name, tensor in zip(group["param_names"], group["params"], strict=True):
            if name not in numbers:
                raise StateMismatchError(
                    f"The checkpoint has no parameter named {name!r}.{did_you_mean(name, numbers)}",
                    fix="Load a checkpoint of this model, or rename the parameters in its param_names.",
                )
            matched[numbers[name]] = tensor
    return matched


def _take_all(rule: Rule, p: Tensor, group: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of a tensor's states, each as this group keeps it."""
    if bitsandbytes.is_entry(saved):
        saved = bitsandbytes.translate(rule, p, group, saved)
    declared = {s.key: s for s in rule.states}
    _refuse_another(rule, p, group, saved)
    if group["rounding"] == "kahan":
        declared[KAHAN.key] = KAHAN
    found = {}
    for key, value in saved.items():
        if key == KAHAN.key and key not in declared:
            continue  # what a rounding lost means nothing to other roundings
        one = declared.get(key)
        if one is not None and one.scalar:
            found[key] = _take_number(value)
        elif one is not None and (isinstance(value, Tensor) or is_coded(value)):
            plain = isinstance(value, Tensor) and not sharding.is_sharded(p)
            given = sharding.whole(value) if plain else value
            found[key] = convert(given, p, kept_as(one, p, group), copy=True)
        else:
            found[key] = _take(p, key, value)
    return found


@functools.cache
def _names_of_states() -> frozenset[str]:
    return frozenset(s.key for rule in discover(kudari.rules) for s in rule.states)


def _refuse_another(rule: Rule, p: Tensor, group: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse states of another optimizer: some of ours are not there, and some are those of another rule.

    Names that no rule has are the user's own, kept beside a tensor that has taken no step yet.
    """
    wanted = [s.key for s in rule.active_states({**group, **rule.kinds_of(tuple(p.shape), group)})]
    lacking = [key for key in wanted if key not in saved]
    foreign = (set(saved) & _names_of_states()) - {s.key for s in rule.states}
    if lacking and foreign:
        raise StateMismatchError(
            f"The checkpoint keeps {', '.join(sorted(foreign))}; {rule.name} keeps {', '.join(wanted)}.",
            why="It is another optimizer's: the step would start from nothing, at a rate meant for that one.",
            fix="Load it into the class that wrote it, or begin with fresh states.",
        )


def _take(param: Tensor, key: str, value: Any) -> Any:
    """A copy of one state, in the dtype and on the device where we keep it; of a list, of all in it."""
    if isinstance(value, list):
        return [_take(param, key, part) for part in value]
    if key == "step":  # in checkpoints of older torch a plain number
        return _take_number(value).to(torch.float32)
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if not (value.is_floating_point() or value.is_complex()):
        return value.detach().to(device=param.device, copy=True)
    return value.detach().to(device=param.device, dtype=state_dtype(param.dtype), copy=True)


def _take_number(value: Any) -> Tensor:
    """A copy of a number kept for a tensor, in float64 whatever the checkpoint had."""
    return torch.as_tensor(value).detach().to(device="cpu", dtype=torch.float64, copy=True).reshape(())


def numbers_on_cpu(optimizer: RuleOptimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Bring step counts and other numbers that a GPU kernel keeps on its device to the CPU, in one copy.

    Groups with ``capturable=True`` keep those of their tensors on the device, as in torch; numbers of the
    group itself are always saved as plain ones. Tensors without any state have no entry.
    """
    groups = [running.plain(optimizer.rule, group) for group in state_dict["param_groups"]]
    state_dict = {**state_dict, "param_groups": groups}
    keys = ("step", *(s.key for s in optimizer.rule.states if s.scalar))
    states = {key: s for key, s in state_dict["state"].items() if s or not isinstance(s, dict)}
    far: list[tuple[Any, str, Tensor]] = []
    for group in state_dict["param_groups"]:
        for number in group["params"] if not group["capturable"] else ():
            found = states.get(number, {})
            kept = [(number, k, found[k]) for k in keys if isinstance(found.get(k), Tensor)]
            far += [entry for entry in kept if entry[2].device.type != "cpu"]
    for device in {x.device for _, _, x in far}:
        there = [entry for entry in far if entry[2].device == device]
        near = torch.stack([x.to(torch.float64) for _, _, x in there]).cpu()
        for (number, key, x), value in zip(there, near, strict=True):
            states[number] = {**states[number], key: value.to(x.dtype, copy=True)}
    return {**state_dict, "state": states}


def _merge(ours: Mapping[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's values, our tensors and names, and our values for what it lacks."""
    merged = {**ours, **saved, "params": ours["params"]}
    merged |= {key: ours[key] for key in ("state_dtype", "rounding") if key in ours}
    if "param_names" in ours:
        merged["param_names"] = ours["param_names"]
    for key, value in merged.items():
        # JSON and safetensors have no tuples: betas come back as a list.
        if isinstance(value, list) and isinstance(ours.get(key), tuple):
            merged[key] = tuple(value)
    return merged
