"""The doctor beside public tools that look for faults of training, on nine classic faults.

    python benchmarks/bench_doctor_others.py

Tools: torch-audit, torch-preflight, torchmortem, gradsnitch, torchtest2; those that are not installed are
named and left out. Install them with ``pip install --no-deps NAME``; torch-preflight also needs libcst.
One classifier and one regression are healthy; each fault changes a line or two of one of them. Every run
is a process of its own. A tool that wants calls in the loop gets them, as its manual says.

The cell says what a tool reports at warning level or above: ``named`` when one of its rules for this fault
fires, ``other`` when only others do, ``-`` when it is silent. ``NAMES`` lists the rules that name a fault;
rules on style and hardware (``torch-audit`` TA2xx and TA4xx, ``torch-preflight`` TG008) are not counted.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CLASSIFIER = """\
import torch
from torch import nn
torch.manual_seed(0)
X = torch.randn(800, 10)
Y = X[:, :4].argmax(1)
net = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
loss_fn = nn.CrossEntropyLoss()
history = []
x, y = X[:64], Y[:64]
#START
for epoch in range(15):
    net.train()
    for idx in torch.randperm(600).split(60):
        x, y = X[idx], Y[idx]
        opt.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        #STEP
        opt.step()
        history.append(loss.item())
    net.eval()
    with torch.no_grad():
        correct = (net(X[600:]).argmax(1) == Y[600:]).float().mean().item()
#END
"""
REGRESSION = """\
import torch
from torch import nn
torch.manual_seed(0)
X = torch.randn(800, 6)
Y = X.sum(1) + 0.1 * torch.randn(800)
net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
opt = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
loss_fn = nn.MSELoss()
x, y = X[:64], Y[:64]
#START
for step in range(200):
    idx = torch.randint(0, 800, (64,))
    x, y = X[idx], Y[idx]
    opt.zero_grad()
    loss = loss_fn(net(x), y)
    loss.backward()
    #STEP
    opt.step()
#END
"""
# slug -> the healthy script and what is changed in it
FAULTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "missing-zero-grad": (CLASSIFIER, (("        opt.zero_grad()\n", ""),)),
    "softmax-before-cross-entropy": (CLASSIFIER, (("(64, 4))", "(64, 4), nn.Softmax(1))"),)),
    "loss-shape-broadcast": (REGRESSION, ((", nn.Flatten(0))", ")"),)),
    "params-not-in-optimizer": (CLASSIFIER, (("net.parameters()", "net[4].parameters()"),)),
    "eval-mode-while-training": (CLASSIFIER, (("    net.train()\n", ""), ("#START", "#START\nnet.train()"))),
    "train-mode-while-evaluating": (CLASSIFIER, (("    net.eval()\n", ""),)),
    "retained-graph": (CLASSIFIER, (("loss.item())", "loss)"),)),
    "lr-too-high": (CLASSIFIER, (("lr=3e-3", "lr=3.0"), ("nn.BatchNorm1d(64), ", ""))),
    "nan-origin": (
        REGRESSION,
        (("loss_fn(net(x), y)", "torch.log((net(x) - y).pow(2)).clamp_min(-1).mean().sqrt()"),),
    ),
}
HEALTHY = {"healthy classifier": (CLASSIFIER, ()), "healthy regression": (REGRESSION, ())}

# Rules that name a fault, by tool; kudari's are the slugs themselves.
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "torch-preflight": {
        "missing-zero-grad": ("TG003",), "softmax-before-cross-entropy": ("TG005",),
        "retained-graph": ("TG001",), "eval-mode-while-training": ("eval()",),
    },
    "torch-audit": {"nan-origin": ("TA100", "TA305"), "lr-too-high": ("TA102",)},
    "torchmortem": {"lr-too-high": ("update",), "nan-origin": ("non-finite", "NaN")},
    "gradsnitch": {"lr-too-high": ("GS008", "GS006"), "nan-origin": ("GS001",)},
    "torchtest2": {
        "params-not-in-optimizer": ("optimizer_coverage",), "nan-origin": ("loss ", "output_finite"),
    },
}  # fmt: skip
IGNORED = ("TA2", "TA4", "TG008")

# Put at #START, #STEP and #END; each leaves a list of texts in SEEN.
INSIDE = {
    "torch-audit": (
        "from torch_audit import autopatch\n"
        "auditor = autopatch(net, optimizer=opt, every_n_steps=10, reporters=[], fail_level='FATAL', "
        "run_static=True, run_init=True)",
        "pass",
        "SEEN = [f.rule_id + ' ' + f.message for f in auditor.finish(report=False).findings "
        "if f.severity.value != 'INFO']",
    ),
    "torchmortem": (
        "from torchmortem import Autopsy\nautopsy = Autopsy(net, optimizer=opt)\nautopsy.__enter__()",
        "autopsy.step(loss=loss.item())",
        "autopsy.__exit__(None, None, None)\n"
        "SEEN = [f.title + ' ' + str(getattr(f, 'category', '')) for f in autopsy.get_report().findings "
        "if int(f.severity) >= 1]",
    ),
    "gradsnitch": (
        "import gradsnitch\nmon = gradsnitch.watch(net, opt, check_every=10**9)\n"
        "counter = iter(range(10**9))",
        "mon.log(next(counter), loss.item())",
        "SEEN = [str(f) for f in mon.report()]",
    ),
    "torchtest2": (
        "import torchtest2\n"
        "told = torchtest2.check_model(net, x, y, loss_fn=loss_fn, optimizer=opt)\n"
        "SEEN = [r.name + ' ' + r.message for r in [*told.failures, *told.warnings]]",
        "pass",
        "pass",
    ),
}
PACKAGES = {name: name.replace("-", "_") for name in ("torch-audit", "torch-preflight", "torchmortem")} | {
    "gradsnitch": "gradsnitch",
    "torchtest2": "torchtest2",
}
LIMIT_SECONDS = 300


def run(command: list[str], folder: Path) -> str:
    """Output of a process; its errors are shown, they are part of the result."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {LIMIT_SECONDS} s"
    return done.stdout + (f"\nERROR {done.stderr[-300:]}" if "Traceback" in done.stderr else "")


def ask_kudari(source: str, folder: Path) -> list[str]:
    """Errors and warnings of ``kudari doctor``."""
    script = folder / "script.py"
    script.write_text(source)
    run([sys.executable, "-m", "kudari", "doctor", "--json", "out.json", str(script)], folder)
    findings = json.loads((folder / "out.json").read_text())["findings"]
    return [f["fault"] for f in findings if f["severity"] != "note" and f["suppressed_by"] is None]


def ask_preflight(source: str, folder: Path) -> list[str]:
    """Findings of ``torch-preflight check``, which reads source."""
    script = folder / "script.py"
    script.write_text(source)
    text = run([sys.executable, "-m", "torch_preflight", "check", "-f", "json", str(script)], folder)
    start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
    told = json.loads(text[start:]) if start >= 0 else {}
    rows = told if isinstance(told, list) else next((v for v in told.values() if isinstance(v, list)), [])
    return [
        f"{r.get('code') or r.get('rule') or r.get('rule_id')} {r.get('message')}"
        for r in rows
        if str(r.get("severity", "")).lower() != "note"
    ]


def ask_inside(tool: str, source: str, folder: Path) -> list[str]:
    """Findings of a tool that is called in the loop."""
    start, step, end = INSIDE[tool]
    indent = source[: source.index("#STEP")].rsplit("\n", 1)[1]
    text = source.replace("#START", start).replace(f"{indent}#STEP", indent + step)
    script = folder / "script.py"
    script.write_text(text.replace("#END", end) + "\nimport json\nprint('\\nSEEN=' + json.dumps(SEEN))\n")
    out = run([sys.executable, str(script)], folder)
    if "SEEN=" not in out:
        return [f"failed: {out.strip().splitlines()[-1] if out.strip() else 'no output'}"]
    return list(json.loads(out.split("SEEN=")[1].split("\n")[0]))


def ask(tool: str, source: str) -> list[str]:
    """What a tool reports about a script."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if tool == "kudari":
            return ask_kudari(source, folder)
        found = (
            ask_preflight(source, folder) if tool == "torch-preflight" else ask_inside(tool, source, folder)
        )
        return [text for text in found if not text.startswith(IGNORED)]


def verdict(tool: str, fault: str, found: list[str]) -> str:
    """``named``, ``other``, ``failed`` or ``-``."""
    if not found:
        return "-"
    if found[0].startswith("failed:"):
        return "failed"
    words = (fault,) if tool == "kudari" else NAMES[tool].get(fault, ())
    named = any(text.startswith(word) or word in text for text in found for word in words)
    return "named" if named else "other"


def main() -> None:
    """Print one row per fault and one column per tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--details", action="store_true", help="also print what every tool says")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows only")
    args = parser.parse_args()
    tools = ["kudari", *(name for name, module in PACKAGES.items() if importlib.util.find_spec(module))]
    for name in PACKAGES:
        version = importlib.metadata.version(name) if name in tools else "not installed, left out"
        print(f"{name}: {version}")
    print(f"\n{'':30s}" + "".join(f"{tool:>17s}" for tool in tools))
    rows = {**FAULTS, **HEALTHY}
    for title, (healthy, changes) in rows.items():
        if args.only and title not in args.only:
            continue
        source = healthy
        for old, new in changes:
            assert old in source, (title, old)
            source = source.replace(old, new)
        found = {tool: ask(tool, source) for tool in tools}
        print(f"{title:30s}" + "".join(f"{verdict(t, title, f):>17s}" for t, f in found.items()), flush=True)
        if args.details:
            for tool, texts in found.items():
                print("".join(f"    {tool}: {text[:150]}\n" for text in texts), end="")


if __name__ == "__main__":
    main()
