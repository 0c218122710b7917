"""The optimizers: drop-in classes for ``torch.optim``, each made from its rule."""

from kudari.optim.bound_group import EagerFallbackWarning
from kudari.optim.catalogue import CLASSES, get, names, rules
from kudari.optim.describe import Description, describe
from kudari.optim.groups import Assignment, assign, groups
from kudari.optim.make import make_class
from kudari.optim.optimizer import RuleOptimizer

globals().update(CLASSES)

__all__ = [
    "Assignment",
    "Description",
    "EagerFallbackWarning",
    "RuleOptimizer",
    "assign",
    "describe",
    "get",
    "groups",
    "make_class",
    "names",
    "rules",
    *CLASSES,
]
