"""Examples in the docstrings of schedules and printers are run."""

import doctest
import importlib
import pkgutil

import pytest

from kudari import schedules
from kudari.schedules import curves

MODULES = [
    *(f"kudari.schedules.{module.name}" for module in pkgutil.iter_modules(schedules.__path__)),
    *(f"kudari.schedules.curves.{module.name}" for module in pkgutil.iter_modules(curves.__path__)),
    "kudari.compile.latex",
    "kudari.compile.javascript",
    "kudari.testing.schedule_exam",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


@pytest.mark.parametrize("name", [name for name in MODULES if ".curves." in name])
def test_every_schedule_has_an_example(name):
    assert doctest.testmod(importlib.import_module(name)).attempted >= 1
