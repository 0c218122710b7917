"""From text to a checked configuration: all problems at once, or a :class:`Config`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic

from kudari.cli._config.checks import Known, check
from kudari.cli._config.messages import problem
from kudari.cli._config.schema import Config
from kudari.cli._config.source import Source, override, read_file
from kudari.errors import ConfigError, Problem, did_you_mean

PRESETS = Path(__file__).parent.parent / "presets"


@dataclass(frozen=True)
class Loaded:
    """A checked configuration together with where every key was written."""

    config: Config
    source: Source

    def given(self, *path: str) -> bool:
        """Whether the user wrote this key, and not the recipe or a default."""
        return self.source.has(path) and ".".join(path) not in self.config.from_recipe


def preset_names() -> list[str]:
    """Names of the built-in presets, in alphabetical order."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split ``[PRESET or CONFIG.yaml] [key=value ...]`` into its two parts.

    Raises:
        ConfigError: more than one preset or file.
    """
    names = [w for w in words if not _is_assignment(w)]
    if len(names) > 1:
        message = f"only one preset or configuration file can be given, and {names[0]!r} is one already."
        raise ConfigError([Problem(name, message, "command line") for name in names[1:]])
    return (names[0] if names else None), [w for w in words if _is_assignment(w)]


def _is_assignment(word: str) -> bool:
    """``key=value``, and not a path that happens to contain ``=``."""
    key, equals, _ = word.partition("=")
    return bool(equals) and all(part.isidentifier() for part in key.split("."))


def find_base(name: str | None, assignments: Iterable[str]) -> Source:
    """The preset or file to begin with; the digits where nothing says what to train on."""
    if name is None:
        has_data = any(word.startswith(("data=", "data.path=")) for word in assignments)
        return Source() if has_data else _preset("digits")
    if name in preset_names():
        return _preset(name)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_file(path) if path.suffix not in _DATA_SUFFIXES else _refuse_data(name)
    if (path / "config.yaml").is_file():
        return read_file(path / "config.yaml")
    if path.is_dir():
        return _refuse_data(name)
    names = preset_names()
    message = f"is neither a preset ({', '.join(names)}) nor a file.{did_you_mean(name, names)}"
    raise ConfigError([Problem(name, message, "command line")])


_DATA_SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")


def _refuse_data(name: str) -> Source:
    message = f"is data, not a configuration. To train on it: kudari train data={name}"
    raise ConfigError([Problem(name, message, "command line")])


def _preset(name: str) -> Source:
    return read_file(PRESETS / f"{name}.yaml", name=f"preset {name}")


def load(words: Sequence[str]) -> Loaded:
    """Read and check ``[PRESET or CONFIG.yaml] [key=value ...]``.

    Raises:
        ConfigError: with every problem that can be known before the data are read.
    """
    name, assignments = split_words(words)
    return validate(override(find_base(name, assignments), assignments))


def validate(source: Source) -> Loaded:
    """Check a source.

    Raises:
        ConfigError: with every problem found.
    """
    problems, usable = list(source.problems), source.copy()
    config = _typed(usable, problems)
    wrong = {p.key for p in problems}
    problems += [p for p in check(config, usable, Known()) if p.key not in wrong]
    if problems:
        raise ConfigError(_in_order(problems))
    return Loaded(config, source)


def _typed(source: Source, problems: list[Problem]) -> Config:
    """Type-check; what is wrong is reported and taken out, so that the rest can be checked too."""
    while True:
        try:
            return Config.model_validate(source.values)
        except pydantic.ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_context=True):
                problems.append(problem(error, source))
            for error in invalid.errors(include_url=False, include_context=False):
                path = error["loc"]
                while path and isinstance(path[-1], int):  # a wrong item makes the list wrong
                    path = path[:-1]
                source.remove(path)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Files before the command line, by line."""

    def order(p: Problem) -> tuple[bool, str, int]:
        file, _, line = p.place.rpartition(":")
        return (not file, file, int(line) if line.isdigit() else 0)

    return sorted(problems, key=order)


# Settings that leave the trajectory of a run as it is.
FREE_ON_RESUME: Mapping[str, str] = {
    "device": "where it is computed",
    "threads": "how many cores compute it",
    "log_every": "how often it is logged",
    "save_every": "how often it is saved",
    "keep_checkpoints": "how many checkpoints stay",
}


def load_resumed(path: Path, words: Sequence[str]) -> Loaded:
    """Read the configuration of a run that is to go on.

    Args:
        path: its ``config.yaml``.
        words: settings to change; only those that cannot change where the run is going.

    Raises:
        ConfigError: for a preset, a file, or a setting that would make it another run.
    """
    name, assignments = split_words(words)
    problems = []
    if name is not None:
        message = "cannot be given with --resume: the run goes on with its own configuration."
        problems.append(Problem(name, message, "command line"))
    for word in assignments:
        key = word.partition("=")[0]
        if key not in FREE_ON_RESUME:
            message = (
                "cannot change in the middle of a run: learning rate, data order and length are functions of "
                f"the whole run. Start a new one: kudari train {path} {word}. "
                f"Free to change: {', '.join(FREE_ON_RESUME)}."
            )
            problems.append(Problem(key, message, "command line"))
    if problems:
        raise ConfigError(problems)
    return validate(override(read_file(path), assignments))


def validate_saved(path: Path) -> Config:
    """Read a ``config.yaml`` that a run wrote, without looking at whether its data are still there.

    Raises:
        ConfigError: it cannot be read, or holds unknown keys or wrong types.
    """
    source = read_file(path)
    problems = list(source.problems)
    config = _typed(source, problems)
    if problems:
        raise ConfigError(_in_order(problems))
    return config
