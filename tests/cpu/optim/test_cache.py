"""Kernels on disk: taken when they are whole and ours, made anew when they are not."""

import subprocess
import sys

import pytest

CODE = """
import torch, kudari.optim
from kudari.compile import cpu
found = []
original = cpu.compile_cpu
p = torch.nn.Parameter(torch.ones(20)); p.grad = torch.arange(20.0)
o = kudari.optim.AdamW([p]); o.step()
print(o._bound[0].bindings[0].kernel.from_disk, p.sum().item())
"""


def run(folder):
    import os

    env = {**os.environ, "KUDARI_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=env)
    return done.stdout.split()


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


def test_the_second_process_finds_the_kernel_and_a_damaged_one_is_made_anew(cache_folder):
    first, second = run(cache_folder), run(cache_folder)
    assert (first[0], second[0]) == ("False", "True")
    assert first[1] == second[1]
    (file,) = cache_folder.glob("*.o")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert run(cache_folder) == first
    assert run(cache_folder)[0] == "True"


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(blocked)[0] == "False"
    assert run("off")[0] == "False"


def test_the_file_is_named_by_the_program_alone():
    import torch

    import kudari.optim
    from kudari.compile.cpu import compile_cpu

    p = torch.nn.Parameter(torch.ones(3))
    optimizer = kudari.optim.AdamW([p])
    compiled = compile_cpu.cache_info().misses
    for step in range(5):
        p.grad = torch.ones(3)
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step()
    assert compile_cpu.cache_info().misses <= compiled + 1
