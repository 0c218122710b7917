"""Configurations every numeric claim is tried on: each option at least once, decay never zero by accident."""

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"amsgrad": True, "weight_decay": 0.1}),
    ("Lion", {}),
    ("Lion", {"lr": 0.01, "betas": (0.95, 0.98), "weight_decay": 0.3}),
]

IDS = [f"{name}-{'-'.join(f'{k}={v}' for k, v in kw.items()) or 'defaults'}" for name, kw in CASES]

# A matrix, a vector, a kernel, a scalar, nothing, one element, and the widths around a vector register.
SHAPES = [(16, 24), (24,), (3, 2, 3, 3), (), (0, 3), (1,), (7,), (8,), (9,), (15,), (16,), (17,), (33,)]
