"""YAML and ``key=value`` text become plain values, each with the place where it was written.

The dialect is YAML 1.2's core: ``1e-3`` is a number, ``no`` and ``on`` are words, ``012`` is twelve. Nothing
is ever constructed from a tag, keys may not repeat, and aliases are refused (a value is written where it is
used).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kudari.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]

COMMAND_LINE = "command line"

# `data: digits` is short for `data: {path: digits}`; setting the short form replaces the whole block.
SHORTHANDS: Mapping[str, str] = {"data": "path", "model": "name", "optimizer": "name", "loss": "name"}
# What everyone sets first need not say that it is the optimizer's: `lr: 1e-3` is `optimizer: {lr: 1e-3}`.
ALIASES: Mapping[str, KeyPath] = {key: ("optimizer", key) for key in ("lr", "weight_decay")}

_CORE = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")}


class CoreResolver(yaml.resolver.BaseResolver):
    """Which plain words are numbers, booleans and null: YAML 1.2's core schema."""


for _tag, _pattern, _first in _CORE:
    CoreResolver.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), [c.strip("\0") for c in _first])


class _Loader(
    yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, CoreResolver
):
    """Composes nodes; has no constructor, so no text can make it run anything."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        CoreResolver.__init__(self)


@dataclass
class Source:
    """Values as they were written, before any check.

    Attributes:
        values: nested dictionaries, lists and scalars.
        places: ``file:line`` or ``command line`` of every key path.
        problems: what is wrong with the text itself.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: KeyPath) -> str:
        """Where ``path``, or the nearest block around it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return COMMAND_LINE

    def get(self, path: KeyPath) -> Any:
        """The value at ``path``, None where there is none."""
        value: Any = self.values
        for part in path:
            keys: Any = (
                value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
            )
            if part not in keys:
                return None
            value = value[part]
        return value

    def has(self, path: KeyPath) -> bool:
        """Whether the key itself was written."""
        parent = self.get(path[:-1]) if len(path) > 1 else self.values
        return isinstance(parent, dict) and path[-1] in parent

    def remove(self, path: KeyPath) -> None:
        """Forget the value at ``path`` and everything below it."""
        parent = self.get(path[:-1]) if len(path) > 1 else self.values
        if isinstance(parent, dict):
            parent.pop(str(path[-1]), None)
        for known in [p for p in self.places if p[: len(path)] == path]:
            del self.places[known]

    def copy(self) -> Source:
        """An independent copy; values are plain data."""
        return Source(_copied(self.values), dict(self.places), list(self.problems))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def dotted(path: KeyPath) -> str:
    """``("optimizer", "betas", 0)`` as ``optimizer.betas.0``; the whole file as ``(top)``."""
    return ".".join(map(str, path)) or "(top)"


def read_file(path: Path, name: str | None = None) -> Source:
    """Read a YAML file.

    Args:
        path: the file.
        name: what to call it in messages; the path by default.

    Raises:
        ConfigError: the file is missing, not text, or not YAML.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([Problem("(file)", "there is no such file.", name)]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start}). A configuration is a YAML text file."
        raise ConfigError([Problem("(file)", message, name)]) from None
    except OSError as error:
        raise ConfigError([Problem("(file)", f"cannot be read: {error.strerror}.", name)]) from None
    return read_text(text, name)


def read_text(text: str, name: str) -> Source:
    """Read YAML text; ``name`` stands for it in messages.

    Raises:
        ConfigError: the text is not YAML, so nothing in it can be checked.
    """
    source = Source()
    source.places[()] = f"{name}:1"
    node = _compose(text, name)
    if node is None:
        return source
    if not isinstance(node, yaml.MappingNode):
        message = "a configuration is a list of `key: value` lines, and this is not."
        raise ConfigError([Problem("(top)", message, _line(node, name))])
    source.values = _mapping(node, (), name, source, seen=set())
    _expand_shorthands(source)
    return source


def _compose(text: str, name: str) -> Any:
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark is not None else name
        detail = (error.problem or error.context or "").strip()
        if "undefined alias" in detail:
            detail += "; text that begins with * needs quotes"
        elif "'\\t'" in detail:
            detail = "a tab at the start of a word; YAML is indented with spaces"
        raise ConfigError([Problem("(text)", f"this is not YAML: {detail}.", place)]) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem("(text)", f"this is not YAML: {error}.", name)]) from None


def _line(node: Any, name: str) -> str:
    return name if name == COMMAND_LINE else f"{name}:{node.start_mark.line + 1}"


def _mapping(node: Any, path: KeyPath, name: str, source: Source, seen: set[int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = _line(key_node, name)
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append(Problem(dotted(path), "a key must be a single word.", place))
            continue
        key = key_node.value  # always text: `on:` and `1:` are the words they look like
        here = (*path, key)
        if key in values:
            first = source.places[here]
            message = f"is written twice, first at {first}. Keep one of them."
            source.problems.append(Problem(dotted(here), message, place))
            continue
        source.places[here] = place
        values[key] = _value(value_node, here, name, source, seen)
    return values


def _value(node: Any, path: KeyPath, name: str, source: Source, seen: set[int]) -> Any:
    place = _line(node, name)
    if id(node) in seen:
        # The node's own line is that of the anchor; the key's is where the alias stands.
        message = "aliases (*name) are not used here; write the value again."
        key = path[:-1] if isinstance(path[-1], int) else path
        source.problems.append(Problem(dotted(path), message, source.place(key)))
        return None
    seen.add(id(node))
    if node.tag not in _PLAIN_TAGS:
        message = f"the tag {node.tag!r} is not used here; write the plain value."
        source.problems.append(Problem(dotted(path), message, place))
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, name, source, seen)
    if isinstance(node, yaml.SequenceNode):
        source.places.setdefault(path, place)
        items = []
        for i, child in enumerate(node.value):
            source.places[(*path, i)] = _line(child, name)
            items.append(_value(child, (*path, i), name, source, seen))
        return items
    return _scalar(node, path, place, source)


def _scalar(node: Any, path: KeyPath, place: str, source: Source) -> Any:
    text, kind = node.value, node.tag.removeprefix("tag:yaml.org,2002:")
    try:
        match kind:
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text, 0 if text[:2] in ("0x", "0o") else 10)
            case "float":
                return float(re.sub(r"^([-+]?)\.(?=[iInN])", r"\1", text))
            case "str":
                return text
    except (ValueError, KeyError):
        pass  # an explicit tag that its text does not fit: `!!int x`
    message = f"the tag {node.tag!r} is not used here; write the plain value."
    source.problems.append(Problem(dotted(path), message, place))
    return None


def _expand_shorthands(source: Source) -> None:
    for block, key in SHORTHANDS.items():
        value = source.values.get(block)
        if (block,) in source.places and value is not None and not isinstance(value, dict):
            source.values[block] = {key: value}
            source.places[(block, key)] = source.places[(block,)]
    for alias, path in ALIASES.items():
        if (alias,) not in source.places:
            continue
        place, value = source.places[(alias,)], source.values[alias]
        source.remove((alias,))
        if source.has(path):
            message = f"is written twice, also as {dotted(path)} at {source.place(path)}. Keep one of them."
            source.problems.append(Problem(alias, message, place))
        else:
            _set(source, path, value, place)


def parse_value(text: str) -> Any:
    """Parse the right-hand side of ``key=value``: a scalar, ``[a, b]`` or ``{a: b}``.

    Raises:
        ConfigError: not YAML.

    Example:
        >>> parse_value("1e-3"), parse_value("[64, 32]"), parse_value("no")
        (0.001, [64, 32], 'no')
    """
    source = Source()
    node = _compose(text, COMMAND_LINE)
    value = None if node is None else _value(node, (), COMMAND_LINE, source, set())
    if source.problems:
        raise ConfigError(source.problems)
    return value


def override(source: Source, assignments: Iterable[str]) -> Source:
    """Return ``source`` with ``key=value`` assignments on top; problems are collected, not raised.

    Setting a block by its short form (``optimizer=lion``) replaces the block, so that hyper-parameters of
    another optimizer do not stay behind; ``optimizer.name=lion`` changes that one key.
    """
    result, given = source.copy(), set()
    for text in sorted(assignments, key=_is_more_than_a_name):
        key, equals, raw = text.partition("=")
        path: KeyPath = ALIASES.get(key.strip()) or tuple(key.strip().split("."))
        if not equals or not all(path):
            message = (
                "is not understood. Settings are written key=value, such as epochs=20 or optimizer.lr=1e-3."
            )
            result.problems.append(Problem(text, message, COMMAND_LINE))
            continue
        if path in given:
            result.problems.append(Problem(dotted(path), "is given twice. Keep one of them.", COMMAND_LINE))
            continue
        given.add(path)
        try:
            value = parse_value(raw)
        except ConfigError as error:
            problems = (Problem(dotted(path), p.message, COMMAND_LINE) for p in error.problems)
            result.problems.extend(problems)
            continue
        _set(result, path, value, COMMAND_LINE)
    return result


def _is_more_than_a_name(assignment: str) -> bool:
    """Blocks by their short form come first: they replace what the others set."""
    return assignment.partition("=")[0].strip() not in SHORTHANDS


def _set(source: Source, path: KeyPath, value: Any, place: str) -> None:
    parent: Any = source.values
    for depth, part in enumerate(path[:-1], start=1):
        if not isinstance(parent.get(part), dict):
            parent[part] = {}
            source.places[path[:depth]] = place
        parent = parent[part]
    source.remove(path)
    if len(path) == 1 and path[0] in SHORTHANDS and value is not None and not isinstance(value, dict):
        value = {SHORTHANDS[str(path[0])]: value}
    parent[path[-1]] = value
    _mark(source, path, value, place)


def _mark(source: Source, path: KeyPath, value: Any, place: str) -> None:
    source.places[path] = place
    if isinstance(value, dict):
        for key, child in value.items():
            _mark(source, (*path, key), child, place)
