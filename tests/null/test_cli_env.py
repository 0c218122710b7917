"""Claims about `kudari env`: one sentence on what would be used, on any machine, with or without torch."""

import dataclasses
import importlib.util
import json

import pytest

from kudari.cli import _machine, env, optim
from kudari.cli._machine import Gpu, Machine
from kudari.cli._rules import check_optimizer, find_rule, rules
from kudari.cli.main import main
from kudari.errors import ArgumentError

MACHINE = Machine(
    python="3.11.7",
    executable="/usr/bin/python",
    system="Linux 6 x86_64",
    cpu="Some CPU",
    features=("avx2", "avx512f"),
    cores=8,
    usable_cores=8,
    core_limit=None,
    memory_gib=16.0,
    free_memory_gib=12.0,
    packages={"torch": "2.13.0", "numpy": "2.0", "rich": None, "triton": None},
    torch_threads=8,
)
GPU = Gpu("NVIDIA H100", 70.0, 79.2, "9.0")


def changed(**values):
    return dataclasses.replace(MACHINE, **values)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (
            MACHINE,
            "Training would use the CPU with up to 8 threads (torch sees no GPU); small models run on one",
        ),
        (changed(cores=1, usable_cores=1), "Training would use the CPU with one thread (torch sees no GPU)."),
        (changed(usable_cores=2), "up to 2 threads"),
        (changed(core_limit=1.5), "one thread"),
        (changed(torch_threads=3), "up to 3 threads"),
        (
            changed(gpus=(GPU,), cuda="13.0"),
            "Training would use NVIDIA H100 (cuda:0), with 70.0 of 79.2 GiB free",
        ),
        (
            changed(driver="580.1"),
            "there is an NVIDIA driver (580.1), but this torch was built for CPUs only",
        ),
        (changed(driver="400.1", cuda="13.0"), "but torch (CUDA 13.0) finds no GPU"),
        (changed(mps=True), "with device=mps"),
        (
            changed(torch_error="torch is not installed. Install it"),
            "Nothing can be trained here yet: torch is not",
        ),
    ],
)
def test_one_sentence_says_what_would_be_used(machine, expected):
    assert expected in machine.verdict()


def test_what_is_missing_and_what_limits_is_shown():
    machine = changed(usable_cores=4, core_limit=2.5, gpus=(GPU,), driver="580.1")
    rows = dict(env.rows(machine))
    assert rows["cores"].startswith("8 in the machine, 4 open to this process, time for 2.5 granted")
    assert rows["not installed"].startswith("rich (pip install")
    assert rows["cuda:0"] == "NVIDIA H100, 70.0 of 79.2 GiB free, compute capability 9.0"
    assert rows["driver"] == "NVIDIA 580.1"
    assert dict(env.rows(changed(memory_gib=None)))["memory"] == "unknown"


def test_it_works_without_torch(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    assert "torch is not installed. Install it with: pip install torch" in out
    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["gpus"] == []
    assert facts["verdict"].startswith("Nothing can be trained here yet")


def test_a_container_limits_cores_and_memory(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB",
        "/proc/self/cgroup": "0::/",
        "/sys/fs/cgroup/cpu.max": "150000 100000",
        "/sys/fs/cgroup/memory.max": str(4 * 2**30),
        "/sys/fs/cgroup/memory.current": str(3 * 2**30),
    }
    monkeypatch.setattr(_machine, "_read", lambda path: files.get(str(path), ""))
    assert _machine._core_limit() == 1.5
    assert _machine._memory() == (4.0, 1.0)
    files["/sys/fs/cgroup/cpu.max"] = "max 100000"
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert _machine._core_limit() is None
    assert _machine._memory() == (16.0, 8.0)


def test_a_system_that_tells_nothing_is_not_an_error(monkeypatch):
    monkeypatch.setattr(_machine, "_read", lambda path: "")
    assert _machine._memory() == (None, None)
    assert _machine._features() == ()
    assert _machine._driver() == ""
    assert isinstance(_machine._cpu_name(), str)


def test_the_driver_version_is_read_from_the_kernel(monkeypatch):
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07  Wed Aug 27 2025\nGCC version: 12"
    monkeypatch.setattr(_machine, "_read", lambda path: text)
    assert _machine._driver() == "580.82.07"


# --- optimizers, which the command line knows without torch


def test_every_rule_has_a_name_in_lower_case():
    assert {"adam", "adamw", "lion", "sgd"} <= set(rules())
    assert all(name == name.lower() for name in rules())


@pytest.mark.parametrize("name", ["AdamW", "adam_w", "Adam-W", "adamw"])
def test_case_and_dashes_make_no_difference(name):
    assert find_rule(name).name == "AdamW"


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(ArgumentError, match="Did you mean 'lion'"):
        find_rule("loin")


@pytest.mark.parametrize("name", list(rules()))
def test_the_defaults_of_every_rule_pass_their_own_check(name):
    rule = rules()[name]
    values = {d.name: d.default for d in (*rule.hypers, *rule.options)}
    assert list(check_optimizer(name, values)) == []


def test_the_list_has_a_line_for_every_rule(capsys):
    assert main(["optim", "list"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in rules())
    assert main(["optim"]) == 0
    assert capsys.readouterr().out == out
    assert main(["optim", "list", "--json"]) == 0
    assert [r["name"] for r in json.loads(capsys.readouterr().out)] == list(rules())


@pytest.mark.parametrize(
    ("source", "short"),
    [
        (
            "Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2",
            "Loshchilov, Hutter 2019",
        ),
        ("Robbins, Monro 1951, A Stochastic Approximation Method; Sutskever 2013", "Robbins, Monro 1951"),
        ("Folklore", "Folklore"),
    ],
)
def test_sources_are_shortened_to_authors_and_year(source, short):
    assert optim._short(source) == short
