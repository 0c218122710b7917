"""The static side: what it finds, what it leaves alone, and that it loads no torch."""

import subprocess
import sys

import pytest

from kudari.doctor.catalogue import illness, illnesses
from kudari.doctor.finding import Finding
from kudari.doctor.printers.page import page
from kudari.doctor.static.baseline import write_baseline
from kudari.doctor.static.check import check_file, check_paths
from kudari.doctor.suppression import ROOTS, suppress
from kudari.errors import ArgumentError

STATIC = sorted(slug for slug, known in illnesses().items() if known.read is not None)
# The sick run of these shows its illness to a run, in a form that source alone does not decide.
DYNAMIC_FORM = {
    "ddp-bypassed",
    "graph-cut",
    "batch-mixing",
    "train-mode-while-evaluating",
    "grad-enabled-in-eval",
}

LOOP = """\
import torch
from torch.nn import functional as F
def fit(model, opt, loader):
    for x, y in loader:
        {before}
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
"""


def write(tmp_path, source, name="train.py"):
    path = tmp_path / name
    path.write_text(source)
    return path


@pytest.mark.parametrize("slug", [s for s in STATIC if illness(s).runs and s not in DYNAMIC_FORM])
def test_source_of_the_sick_run_is_suspected_and_of_the_others_not(slug, tmp_path):
    runs = illness(slug).runs
    sick = [f.fault for f in check_file(write(tmp_path, runs.sick, "sick.py"))]
    assert slug in sick
    for name, source in (("cured.py", runs.cured()), ("healthy.py", runs.healthy)):
        assert slug not in [f.fault for f in check_file(write(tmp_path, source, name))], name


def test_check_loads_no_torch(tmp_path):
    path = write(tmp_path, LOOP.format(before="pass"))
    code = (
        "import sys\nfrom pathlib import Path\nfrom kudari.doctor.static.check import check_paths\n"
        "assert check_paths([Path(sys.argv[1])]).findings\nassert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_nothing_that_is_read_is_run(tmp_path):
    mark = tmp_path / "ran"
    check_paths([write(tmp_path, f"import torch\nopen({str(mark)!r}, 'w')\n" + LOOP.format(before="pass"))])
    assert not mark.exists()


@pytest.mark.parametrize("before", ["opt.zero_grad()", "model.zero_grad()", "wipe(model)"])
def test_any_wipe_in_the_loop_is_enough(tmp_path, before):
    source = "def wipe(model):\n    for p in model.parameters():\n        p.grad = None\n" + LOOP.format(
        before=before
    )
    assert check_file(write(tmp_path, source)) == ()


def test_files_that_are_no_python_are_passed_over(tmp_path):
    write(tmp_path, "import torch\ndef broken(:\n  loss.backward()", "broken.py")
    write(tmp_path, "\x00torch backward(", "binary.py")
    assert check_paths([tmp_path]).findings == ()


def test_ignore_comment_argument_and_baseline_silence(tmp_path):
    path = write(tmp_path, LOOP.format(before="pass"))
    found = check_paths([path])
    assert [f.fault for f in found.findings] == ["missing-zero-grad"]
    assert check_paths([path], ignore=["missing-zero-grad"]).findings == ()
    write_baseline(found, tmp_path / "baseline.json")
    path.write_text("\n\n" + path.read_text())
    assert check_paths([path], baseline=tmp_path / "baseline.json").findings == ()
    path = write(
        tmp_path, LOOP.format(before="pass").replace("opt.step()", "opt.step()  # kudari: ignore"), "b.py"
    )
    assert check_paths([path]).findings == ()


def test_a_missing_path_says_so(tmp_path):
    with pytest.raises(ArgumentError, match="does not exist"):
        check_paths([tmp_path / "nothing"])


def test_unknown_slug_gets_a_suggestion():
    with pytest.raises(ArgumentError, match="Did you mean 'missing-zero-grad'"):
        illness("missing-zerograd")


def test_every_illness_has_a_full_manual_and_the_table_of_roots_names_only_illnesses():
    known = illnesses()
    for slug, one in known.items():
        manual = one.manual
        assert all((manual.sees, manual.hurts, manual.fix, manual.unless)), slug
        assert one.judge or one.read, slug
        assert manual.sees.split(".")[0] in page(one).replace("\n  ", " "), slug
    named = {*ROOTS, *(s for symptoms in ROOTS.values() for s in symptoms)}
    assert named <= known.keys()


def finding(slug, subjects=(), severity="error", **evidence):
    return Finding(slug, severity, "", None, None, evidence, "", subjects=frozenset(subjects))


def test_a_root_suppresses_symptoms_of_the_same_subject_only():
    root = finding("loss-shape-broadcast", [1])
    same, other = finding("plateau", [1], "warning"), finding("plateau", [2], "warning")
    assert [f.suppressed_by for f in suppress([root, same, other])] == [None, "loss-shape-broadcast", None]
    assert suppress([root, same])[0].explains == ("plateau",)


def test_a_rate_that_was_too_high_long_before_the_nan_is_its_root():
    rate, origin = finding("lr-too-high", first_step=1), finding("nan-origin", first_step=30)
    assert [f.suppressed_by for f in suppress([rate, origin])] == [None, "lr-too-high"]
    late = finding("lr-too-high", first_step=28)
    assert [f.suppressed_by for f in suppress([late, origin])] == ["nan-origin", None]


def test_several_paths_are_read_once_each(tmp_path):
    path = write(tmp_path, LOOP.format(before="pass"))
    assert len(check_paths([path, tmp_path, path]).findings) == 1


def test_pooling_by_attention_over_dimension_one_is_no_softmax_over_one_class(tmp_path):
    layers = "nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1), nn.Softmax(dim={}))"
    pool = "from torch import nn\nclass Pool(nn.Module):\n    def __init__(self):\n        self.att = {}\n"
    pool += "    def forward(self, x):\n        return (self.att(x) * x).sum(1)\n"
    assert check_file(write(tmp_path, pool.format(layers.format(1)))) == ()
    found = check_file(write(tmp_path, pool.format(layers.format(-1))))
    assert [f.fault for f in found] == ["softmax-over-one-class"]


def test_reading_buffers_of_the_wrapped_module_does_not_bypass_ddp(tmp_path):
    loop = "ddp = DistributedDataParallel(net)\nfor x in data:\n    opt.zero_grad()\n    {}\n"
    loop += "    loss = ddp(x).sum()\n    loss.backward()\n    opt.step()\n"
    head = "import torch\nfrom torch.nn.parallel import DistributedDataParallel\n"
    assert check_file(write(tmp_path, head + loop.format("list(ddp.module.buffers())"))) == ()
    found = check_file(write(tmp_path, head + loop.format("ddp.module.training_step(x)")))
    assert [f.fault for f in found] == ["ddp-bypassed"]


@pytest.mark.parametrize(
    ("layout", "imports", "make"),
    [
        ({"net.py": ""}, "from net import Net", "Net()"),
        ({"net.py": ""}, "import net", "net.Net()"),
        (
            {"models/net.py": "", "models/__init__.py": "from .net import Net"},
            "from models import Net",
            "Net()",
        ),
    ],
)
def test_a_softmax_in_a_class_of_another_file_is_followed_to_the_loss(tmp_path, layout, imports, make):
    net = "import torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
    net += "        super().__init__()\n        self.fc = nn.Linear(4, 3)\n    def forward(self, x):\n"
    net += "        return torch.{}(self.fc(x), 1)\n"
    train = (
        f"import torch\nfrom torch import nn\n{imports}\nmodel = {make}\ncriterion = nn.CrossEntropyLoss()\n"
    )
    train += "for x, y in data:\n    loss = criterion(model(x), y)\n"
    for last, expected in (("softmax", ["softmax-before-cross-entropy"]), ("log_softmax", [])):
        for name, source in layout.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write(tmp_path, source or net.format(last), name)
        found = check_file(write(tmp_path, train, "train.py"))
        assert [f.fault for f in found] == expected
        assert [f.label for f in found] == ["the softmax of net.py:8" for _ in expected]
