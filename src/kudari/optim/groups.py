"""Parameter groups: which parameters are decayed, how fast each layer learns, and what Muon is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from kudari.errors import ArgumentError
from kudari.optim.assignments import assign, kinds_of, matching
from kudari.optim.depth import depths


def groups(
    model: nn.Module,
    *,
    weight_decay: float,
    lr: float | None = None,
    no_decay: Collection[str] = ("bias", "norm", "vector or scalar"),
    no_weight_decay_list: Collection[str] = (),
    layer_decay: float | None = None,
    layers: Sequence[str] | None = None,
    min_scale: float = 0.0,
    lr_scale: Mapping[str, float] | None = None,
    muon: bool | Mapping[str, Any] = False,
    head: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for any optimizer, each trainable parameter in exactly one.

    Args:
        model: its trainable parameters are taken, a shared one once.
        weight_decay: of those that are decayed; the others have 0.
        lr: learning rate that ``layer_decay`` and ``lr_scale`` multiply. Without those it may be left to the
            optimizer.
        no_decay, no_weight_decay_list: what is not decayed; see :func:`assign`.
        layer_decay: the rate of each layer as a share of the one above it, above 0 and at most 1. The last
            layer has ``lr``, the embeddings below n layers ``lr * layer_decay**(n + 1)``.
        layers: names of the layers from input to output; see :func:`kudari.optim.depth.depths`.
        min_scale: the least that ``layer_decay`` makes of a rate, 0 to 1.
        lr_scale: factors of the rate by name of parameter or module, ``{"head": 10}``; ``*`` stands for
            anything, and where several fit the last one counts.
        muon: True for the optimizer Muon: its groups of matrices and kernels get ``use_muon=True``, those of
            embeddings, the output head, vectors, scalars and matrices of one row or column
            ``use_muon=False``. With a dict, its values, such as ``{"lr": 0.02}``, are those of the former.
        head: names of what else Muon leaves out, such as the output head. By default the last linear map
            registered.

    Returns:
        Dicts with ``params``, ``param_names``, ``name``, ``weight_decay``, and if asked for ``lr`` and
        ``use_muon``; none is empty. Near the input first, decayed ones before others.

    Raises:
        ArgumentError: a value out of range, a name that fits nothing, or a rate to scale that is not given.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        >>> [(g["weight_decay"], g["param_names"]) for g in groups(model, weight_decay=0.1)]
        [(0.1, ['0.weight', '2.weight']), (0.0, ['0.bias', '1.weight', '1.bias', '2.bias'])]
        >>> {g["name"]: g["lr"] for g in groups(model[0:1], weight_decay=0.1, lr=1.0, lr_scale={"0.bias": 3})}
        {'decay': 1.0, 'no_decay': 3.0}
    """
    _check(layer_decay, min_scale, lr, lr_scale, muon)
    kinds = kinds_of(model)
    places = assign(model, no_decay=no_decay, no_weight_decay_list=no_weight_decay_list)
    depth = dict.fromkeys(kinds, 0) if layer_decay is None else depths(model, list(kinds), layers)
    scales = _scales(depth, layer_decay or 1.0, min_scale, lr_scale or {})
    routed = _routed(model, kinds, head) if muon is not False else {}
    parameters = dict(model.named_parameters())
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place in places:
        name = place.name
        rate = weight_decay if place.decayed else 0.0
        scale, use_muon = scales[name], routed.get(name)
        key = (depth[name], not use_muon, not place.decayed, scale)
        if key not in found:
            values: dict[str, Any] = {"params": [], "param_names": [], "name": "", "weight_decay": rate}
            values |= {} if lr is None else {"lr": lr * scale}
            if use_muon is not None:
                values |= {"use_muon": use_muon}
                values |= _muon_values(muon, place.decayed, scale) if use_muon else {}
            found[key] = values
        found[key]["params"].append(parameters[name])
        found[key]["param_names"].append(name)
    made = [found[key] for key in sorted(found)]
    _name(made, sorted(found), layer_decay is not None)
    return made


def _check(
    layer_decay: float | None,
    min_scale: float,
    lr: float | None,
    lr_scale: Mapping[str, float] | None,
    muon: bool | Mapping[str, Any],
) -> None:
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ArgumentError(f"layer_decay={layer_decay!r} is not allowed; expected 0 < layer_decay <= 1.")
    if not 0 <= min_scale <= 1:
        raise ArgumentError(f"min_scale={min_scale!r} is not allowed; expected 0 <= min_scale <= 1.")
    for name, factor in (lr_scale or {}).items():
        if not factor >= 0:
            raise ArgumentError(f"lr_scale[{name!r}]={factor!r} is not allowed; expected a factor >= 0.")
    if lr is None and (layer_decay is not None or lr_scale):
        raise ArgumentError(
            "layer_decay and lr_scale multiply a learning rate, and lr is not given.",
            why="A group holds its rate itself; the optimizer's own would replace none of them.",
            fix="Pass lr=... here, the rate of the last layer.",
        )
    if isinstance(muon, Mapping) and (odd := sorted({"params", "use_muon"} & set(muon))):
        raise ArgumentError(f"muon has {odd[0]!r}, which is not for you to set.", fix="Leave it out.")


def _scales(
    depth: Mapping[str, int], layer_decay: float, min_scale: float, lr_scale: Mapping[str, float]
) -> dict[str, float]:
    """What multiplies the rate of each parameter."""
    top = max(depth.values(), default=0)
    scales = {name: max(min_scale, layer_decay ** (top - layer)) for name, layer in depth.items()}
    factors: dict[str, float] = {}
    for pattern, factor in lr_scale.items():
        factors |= dict.fromkeys(matching(depth, [pattern], "lr_scale"), factor)
    return {name: scale * factors.get(name, 1.0) for name, scale in scales.items()}


def _routed(model: nn.Module, kinds: Mapping[str, str], head: Collection[str] | None) -> dict[str, bool]:
    """Whether Muon itself updates each parameter."""
    if head is None:
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        # A head that is tied to an embedding or frozen has no name of its own, and needs none.
        last = [name for name in kinds if linear and name.startswith(f"{linear[-1]}.")]
    else:
        last = list(matching(kinds, head, "head"))
    wide = {n: p.ndim >= 2 and 1 < p.shape[0] < p.numel() for n, p in model.named_parameters()}
    return {n: wide[n] and kind != "embedding" and n not in last for n, kind in kinds.items()}


def _muon_values(muon: bool | Mapping[str, Any], decayed: bool, scale: float) -> dict[str, Any]:
    """Values of one of Muon's own groups; its rate is scaled like the others, and no decay stays none."""
    values = dict(muon) if isinstance(muon, Mapping) else {}
    if "lr" in values:
        values["lr"] = values["lr"] * scale
    if not decayed:
        values.pop("weight_decay", None)
    return values


def _name(made: list[dict[str, Any]], keys: list[tuple[Any, ...]], layered: bool) -> None:
    """Give each group a name of its own, such as ``layer_3_decay``; log writers show it."""
    seen: dict[str, int] = {}
    for group, (layer, _, plain, _) in zip(made, keys, strict=True):
        words = [f"layer_{layer}"] if layered else []
        words += ["muon" if group["use_muon"] else "adamw"] if "use_muon" in group else []
        name = "_".join([*words, "no_decay" if plain else "decay"])
        seen[name] = seen.get(name, 0) + 1
        group["name"] = name if seen[name] == 1 else f"{name}_{seen[name]}"


def groups_table(groups: Sequence[Mapping[str, Any]], *, names: int = 3) -> str:
    """Parameter groups as a table for people.

    Args:
        groups: as from :func:`groups`, or ``optimizer.param_groups``.
        names: how many parameters of each to name.

    Returns:
        Lines without a trailing newline: one for each group, and one for their sum.

    Example:
        >>> print(groups_table(groups(nn.Linear(4, 2), weight_decay=0.1, lr=0.01)))
        group     tensors  parameters    lr  weight_decay  names
        decay           1           8  0.01           0.1  weight
        no_decay        1           2  0.01           0.0  bias
        all             2          10
    """
    columns = [c for c in ("lr", "weight_decay", "use_muon") if any(c in g for g in groups)]
    rows = [["group", "tensors", "parameters", *columns, "names"]]
    for number, group in enumerate(groups):
        known = list(group.get("param_names", []))
        shown = ", ".join(known[:names]) + (f", ... {len(known) - names} more" if len(known) > names else "")
        count = sum(p.numel() for p in group["params"])
        cells = [str(group.get("name", number)), str(len(group["params"])), f"{count:,}"]
        rows.append([*cells, *(_cell(group.get(c)) for c in columns), shown])
    total = sum(p.numel() for g in groups for p in g["params"])
    rows.append(["all", str(sum(len(g["params"]) for g in groups)), f"{total:,}", *[""] * (len(columns) + 1)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1

    def line(row: list[str]) -> str:
        cells = [
            c.rjust(w) if 0 < i < last else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join(line(row) for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, bool) else repr(round(float(value), 12)) if value else "0.0"
