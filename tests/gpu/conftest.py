"""Needs a CUDA device; without one every test here is skipped and says so."""

import importlib.util

import pytest
import torch


def pytest_collection_modifyitems(items):
    here = [item for item in items if "tests/gpu/" in item.path.as_posix()]
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        elif importlib.util.find_spec("triton") is None:
            item.add_marker(pytest.mark.skip(reason="Triton is not installed"))
