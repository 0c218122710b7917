"""The optimizers: drop-in classes for ``torch.optim``, each made from its rule."""

from kudari.garbage import uncollected

with uncollected():
    from kudari.optim.assignments import Assignment, assign
    from kudari.optim.bound_group import EagerFallbackWarning
    from kudari.optim.catalogue import CLASSES, get, names, rules
    from kudari.optim.describe import Description, describe
    from kudari.optim.fused import averaged, fuse, grad_norm
    from kudari.optim.groups import groups, groups_table
    from kudari.optim.make import make_class
    from kudari.optim.optimizer import RuleOptimizer
    from kudari.optim.release import GradientRelease

globals().update(CLASSES)

__all__ = [
    "Assignment",
    "Description",
    "EagerFallbackWarning",
    "GradientRelease",
    "RuleOptimizer",
    "assign",
    "averaged",
    "describe",
    "fuse",
    "get",
    "grad_norm",
    "groups",
    "groups_table",
    "make_class",
    "names",
    "rules",
    *CLASSES,
]
