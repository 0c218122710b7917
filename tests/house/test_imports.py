"""What is loaded, and what is not: a start-up that is fast stays fast only if someone looks."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def loaded(code):
    """Names of the modules loaded after running some code in a new process."""
    script = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_kudari_loads_nothing_heavy():
    assert not loaded("import kudari") & {"torch", "numpy", "llvmlite", "pandas", "rich", "pydantic"}


def test_help_and_reports_load_no_torch():
    code = """
import contextlib, kudari.report
from kudari.cli.main import main
with contextlib.suppress(SystemExit):
    main(["--help"])
"""
    assert not loaded(code) & {"torch", "numpy", "llvmlite", "pandas"}


def test_the_optimizers_need_only_torch_numpy_and_llvmlite():
    heavy = {"pandas", "sklearn", "rich", "pydantic", "PIL", "safetensors"}
    assert not loaded("import kudari.optim") & (heavy | {"llvmlite"})


def test_a_step_and_a_checkpoint_do_not_load_torchs_compiler():
    code = """
import torch, kudari.optim
p = torch.nn.Parameter(torch.ones(3)); p.grad = torch.ones(3)
o = kudari.optim.AdamW([p]); o.step(); o.zero_grad(); o.load_state_dict(o.state_dict())
"""
    assert "torch._dynamo" not in loaded(code)


@pytest.mark.parametrize("tool", ["make_stubs.py", "make_optimizer_page.py"])
def test_what_is_made_from_the_rules_says_what_they_say(tool):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_optimizers_lowers_no_rule():
    code = """
import kudari.optim
from kudari.compile import lower
assert not lower._lower.cache_info().misses
assert kudari.optim.LAMB._couples and not kudari.optim.AdamW._couples
assert lower._lower.cache_info().misses == 2
"""
    assert "kudari.optim" in loaded(code)
