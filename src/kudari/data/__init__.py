"""Data in memory: sources, pipelines, and batches in an order that depends on (seed, step) alone."""

from kudari.data.augment import Augment, compose, random_flip, random_shift
from kudari.data.bundle import Bundle, TensorData
from kudari.data.digits import load_digits
from kudari.data.loader import BatchLoader
from kudari.data.outputs import Outputs
from kudari.data.pipeline import Inputs, Pipeline
from kudari.data.seeds import derive_seed
from kudari.data.sources import load_path

__all__ = [
    "Augment",
    "BatchLoader",
    "Bundle",
    "Inputs",
    "Outputs",
    "Pipeline",
    "TensorData",
    "compose",
    "derive_seed",
    "load_digits",
    "load_path",
    "random_flip",
    "random_shift",
]
