"""Training: ``fit``, the loop under it, checkpoints and the record of a run."""

from kudari.train.fit import fit
from kudari.train.losses import loss_names
from kudari.train.metrics import metric_names
from kudari.train.progress import Now, Progress
from kudari.train.run import About, Run

__all__ = ["About", "Now", "Progress", "Run", "fit", "loss_names", "metric_names"]
