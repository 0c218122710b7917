"""Sharded parameters give the unsharded result; the claims are in the modules that ranks.py names."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def names():
    """Names of all claims, read from the source: pytest itself needs none of what they import."""
    for file in sorted(HERE.glob("claims_*.py")):
        for item in ast.parse(file.read_text()).body:
            marks = item.decorator_list if isinstance(item, ast.FunctionDef) else []
            if any(isinstance(mark, ast.Call) and ast.unparse(mark.func) == "claim" for mark in marks):
                yield item.name


@pytest.fixture(scope="session")
def said():
    command = [sys.executable, "-c", "from tests.dist.ranks import main; main()"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.dist
@pytest.mark.parametrize("name", list(names()))
def test_claim(name, said):
    failed = {rank: text for rank, text in said[name].items() if text}
    assert not failed, "\n".join(f"{rank}: {text}" for rank, text in failed.items())


@pytest.mark.dist
def test_every_claim_is_run(said):
    assert sorted(said) == sorted(names())
