"""What a run leaves behind. Loads no torch."""

from kudari.record.facts import Choice, Decayed, Diagnosis, Evaluation, Facts, Mistake
from kudari.record.metrics import MetricsWriter, read_metrics
from kudari.record.rundir import RunDir, new_rundir

__all__ = [
    "Choice",
    "Decayed",
    "Diagnosis",
    "Evaluation",
    "Facts",
    "MetricsWriter",
    "Mistake",
    "RunDir",
    "new_rundir",
    "read_metrics",
]
