"""Small, readable, standard models."""

from kudari.models.cnn import CNN, cnn, depth_for
from kudari.models.mlp import MLP, mlp
from kudari.models.spec import build, default_spec, describe

__all__ = ["CNN", "MLP", "build", "cnn", "default_spec", "depth_for", "describe", "mlp"]
