"""Validation accuracy and training time of the built-in default over seeds, and on splits nobody tuned on.

    make bench-digits

The recipe's settings were chosen on splits 0 to 2; splits 3 and 4 were not looked at when choosing.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path

from kudari.cli.main import main as kudari


def train(folder: Path, seed: int, split: int) -> tuple[float, float]:
    """Accuracy and seconds of one run."""
    name = f"digits-{split}-{seed}"
    words = ["train", "digits", f"seed={seed}", f"data.split_seed={split}", "--out", str(folder / name)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        status = kudari([*words, "--quiet", "--json"])
    if status != 0:
        sys.exit(f"{' '.join(words)} ended with status {status}")
    found = json.loads(printed.getvalue().splitlines()[-1])
    return found["metrics"]["valid_accuracy"], found["seconds"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for split in (0, 3, 4):
            runs = [train(Path(folder), seed, split) for seed in range(5)]
            accuracies, seconds = zip(*runs, strict=True)
            shown = " ".join(f"{a:.4f}" for a in accuracies)
            print(
                f"split {split}  seeds 0-4: {shown}  mean {statistics.mean(accuracies):.4f}  "
                f"training {min(seconds):.1f} to {max(seconds):.1f} s"
            )


if __name__ == "__main__":
    main()
