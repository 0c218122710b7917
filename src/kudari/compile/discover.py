"""Finding rules: every file of a package that declares one."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from kudari.compile.notation import Rule


def discover(package: ModuleType) -> tuple[Rule, ...]:
    """Every rule in the files of a package, in the order of the files' names."""
    modules = (
        importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    )
    return tuple(v for module in modules for v in vars(module).values() if isinstance(v, Rule))
