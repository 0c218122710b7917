"""One thread in every test unless a test asks for more: idle OpenMP threads make small steps slow."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_runtest_setup(item):
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
