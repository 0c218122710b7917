"""The formulas of the optimizers once more, in NumPy float64, written from the papers and not from the rules.

Each function takes parameter and gradient arrays and a dict for its state, and returns the new parameter.
"""

import numpy as np


def sgd(p, g, s, *, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    g = g + weight_decay * p
    if momentum == 0:
        return p - lr * g
    if "b" not in s:
        s["b"] = g.copy()
    else:
        s["b"] = momentum * s["b"] + (1 - dampening) * g
    return p - lr * (g + momentum * s["b"] if nesterov else s["b"])


def _moments(g, s, b1, b2):
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g
    return s["m"] / (1 - b1 ** s["t"])


def _adam_direction(g, s, betas, eps, amsgrad):
    b1, b2 = betas
    m_hat = _moments(g, s, b1, b2)
    v = s["v"]
    if amsgrad:
        s["x"] = np.maximum(s.get("x", 0.0), v)
        v = s["x"]
    return m_hat / (np.sqrt(v / (1 - b2 ** s["t"])) + eps)


def adam(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False,
    decoupled_weight_decay=False,
):  # fmt: skip
    if decoupled_weight_decay:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    return p - lr * _adam_direction(g, s, betas, eps, amsgrad)


def adamw(p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False):
    return p - lr * weight_decay * p - lr * _adam_direction(g, s, betas, eps, amsgrad)


def lion(p, g, s, *, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    b1, b2 = betas
    m = s.get("m", np.zeros_like(p))
    u = np.sign(b1 * m + (1 - b1) * g)
    s["m"] = b2 * m + (1 - b2) * g
    return p - lr * weight_decay * p - lr * u


ORACLES = {"SGD": sgd, "Adam": adam, "AdamW": adamw, "Lion": lion}
