"""One sentence for everything a type check can find wrong, in the words of somebody who writes YAML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from kudari.cli._config.schema import Block, Config, leaves
from kudari.cli._config.source import KeyPath, Source, dotted
from kudari.errors import Problem, did_you_mean


def problem(error: Mapping[str, Any], source: Source) -> Problem:
    """Turn one pydantic error into a problem with its place."""
    path: KeyPath = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        message = _unknown_key(path)
    else:
        message = _wrong_value(path, source.get(path), error)
    return Problem(dotted(path), message, source.place(path))


def shown(value: Any) -> str:
    """The value as it would be written in YAML, shortened.

    Example:
        >>> shown(True), shown("3"), shown(None)
        ('true', "'3'", 'null')
    """
    words: Mapping[Any, str] = {True: "true", False: "false", None: "null"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, dict):
        return "a block of keys"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_key(path: KeyPath) -> str:
    name = str(path[-1])
    siblings = _keys_of(path[:-1])
    elsewhere = [dotted(p) for p in leaves() if p[-1] == name]
    hint = f" Did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(name, siblings)
    where = f"of {dotted(path[:-1])}" if len(path) > 1 else "of a configuration"
    return f"is not a key {where}.{hint or ' Keys: ' + ', '.join(siblings) + '.'}"


def _keys_of(path: KeyPath) -> Iterable[str]:
    fields = Config.model_fields
    if not path:
        return [k for k in fields if k != "from_recipe"]
    kind = fields[str(path[0])].annotation if str(path[0]) in fields else None
    if isinstance(kind, type) and issubclass(kind, Block):
        return list(kind.model_fields)
    return []


def _wrong_value(path: KeyPath, value: Any, error: Mapping[str, Any]) -> str:
    allowed = allowed_at(path)
    if error["type"] == "literal_error" and isinstance(value, str):
        return f"is {shown(value)}; it must be {allowed}.{did_you_mean(value, _choices(error))}"
    return f"is {shown(value)}; it must be {allowed}.{_hint(value, error['type'])}"


def _choices(error: Mapping[str, Any]) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def allowed_at(path: KeyPath) -> str:
    """What is allowed at a key path; an item of a list is described by its list."""
    names = tuple(str(p) for p in path if isinstance(p, str))
    known = leaves()
    if names in known:
        return known[names]
    field = Config.model_fields.get(names[0]) if names else None
    return (field.description or "") if field is not None else "something else"


def _hint(value: Any, kind: str) -> str:
    """What the writer probably meant."""
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return f' Put quotes around a name that looks like something else: "{shown(value)}".'
    if kind in ("int_type", "float_type") and isinstance(value, str):
        bare = value.replace("_", "").replace(" ", "")
        return f" Write {bare}, without quotes." if _is_number(bare) else ""
    if kind in ("int_type", "int_from_float") and isinstance(value, float) and value.is_integer():
        return f" Write {int(value)}."
    return ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
