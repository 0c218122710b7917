"""The resolved configuration as a file that reads back to the same configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kudari.cli._config.schema import Config
from kudari.cli._config.source import CoreResolver

HEADER = """\
# The complete configuration of this run: every key, with the value that was used.
# Train the same again:      {again}
# Train with one change:     {again} seed=1
# Keys listed under from_recipe were not set by hand; report.html gives the reasons.
"""


class _Dumper(yaml.SafeDumper):
    """Quotes every text that this dialect or YAML 1.1 would read as something else."""


# Each list is copied before it is extended: PyYAML's own dumper stays as it was.
_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *CoreResolver.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {**yaml.SafeDumper.yaml_implicit_resolvers, **CoreResolver.yaml_implicit_resolvers}
}


def _flow_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    """``betas: [0.9, 0.999]`` on one line, longer lists on several."""
    short = len(values) <= 4
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=short)


_Dumper.add_representer(list, _flow_list)
_Dumper.add_representer(tuple, lambda dumper, values: _flow_list(dumper, list(values)))


def values_of(config: Config) -> dict[str, Any]:
    """Every key as plain data; keys of a block that do not apply (``widths`` of a cnn) are left out."""
    values = config.model_dump(mode="json")
    values["out"] = None  # a run folder is used once; the next run gets its own
    values["model"] = {k: v for k, v in values["model"].items() if v is not None}
    values["loss"] = {k: v for k, v in values["loss"].items() if v is not None}
    return values


def to_yaml(values: Mapping[str, Any], again: str = "kudari train config.yaml") -> str:
    """Write plain values with a header.

    Args:
        values: of :func:`values_of`.
        again: the command that trains the same again.
    """
    body = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return HEADER.format(again=again) + "\n" + body
