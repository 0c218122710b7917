"""The formulas of the optimizers once more, in NumPy float64, written from the papers and not from the rules.

Each function takes parameter and gradient arrays and a dict for its state, and returns the new parameter.
"""

import numpy as np


def _agreeing(u, g, cautious):
    """The part of a direction whose sign is the gradient's, scaled up for what is left out."""
    if not cautious:
        return u
    kept = (u * g > 0).astype(float)
    return u * kept / max(kept.mean(), 1e-3)


def sgd(
    p, g, s, *, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, cautious=False
):  # fmt: skip
    g = g + weight_decay * p
    if momentum == 0:
        return p - lr * g
    if "b" not in s:
        s["b"] = g.copy()
    else:
        s["b"] = momentum * s["b"] + (1 - dampening) * g
    return p - lr * _agreeing(g + momentum * s["b"] if nesterov else s["b"], g, cautious)


def _moments(g, s, b1, b2):
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g
    return s["m"] / (1 - b1 ** s["t"])


def _adam_direction(g, s, betas, eps, amsgrad, cautious):
    b1, b2 = betas
    m_hat = _moments(g, s, b1, b2)
    v = s["v"]
    if amsgrad:
        s["x"] = np.maximum(s.get("x", 0.0), v)
        v = s["x"]
    return _agreeing(m_hat / (np.sqrt(v / (1 - b2 ** s["t"])) + eps), g, cautious)


def adam(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False,
    decoupled_weight_decay=False, cautious=False,
):  # fmt: skip
    if decoupled_weight_decay:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    return p - lr * _adam_direction(g, s, betas, eps, amsgrad, cautious)


def adamw(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, cautious=False
):  # fmt: skip
    return p - lr * weight_decay * p - lr * _adam_direction(g, s, betas, eps, amsgrad, cautious)


def lion(p, g, s, *, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, cautious=False):
    b1, b2 = betas
    m = s.get("m", np.zeros_like(p))
    u = np.sign(b1 * m + (1 - b1) * g)
    s["m"] = b2 * m + (1 - b2) * g
    return p - lr * weight_decay * p - lr * _agreeing(u, g, cautious)


def _decay(p, g, lr, weight_decay, decoupled):
    """Parameter and gradient after decay."""
    return (p - lr * weight_decay * p, g) if decoupled else (p, g + weight_decay * p)


def adagrad(
    p, g, s, *, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10
):  # fmt: skip
    g = g + weight_decay * p
    s["t"] = s.get("t", 0) + 1
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return p - lr / (1 + (s["t"] - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    s["s"] = rho * s.get("s", 0.0) + (1 - rho) * g * g
    a = s.get("a", 0.0)
    d = np.sqrt(a + eps) / np.sqrt(s["s"] + eps) * g
    s["a"] = rho * a + (1 - rho) * d * d
    return p - lr * d


def rmsprop(
    p, g, s, *, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False
):  # fmt: skip
    g = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g * g
    v = s["v"]
    if centered:
        s["a"] = alpha * s.get("a", 0.0) + (1 - alpha) * g
        v = v - s["a"] * s["a"]
    u = g / (np.sqrt(v) + eps)
    if momentum > 0:
        u = s["b"] = momentum * s.get("b", 0.0) + u
    return p - lr * u


def nadam(
    p, g, s, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
    decoupled_weight_decay=False, cautious=False,
):  # fmt: skip
    p, g = _decay(p, g, lr, weight_decay, decoupled_weight_decay)
    b1, b2 = betas
    _moments(g, s, b1, b2)
    t = s["t"]

    def mu(step):
        return b1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))

    s["M"] = s.get("M", 1.0) * mu(t)
    ahead = mu(t + 1) * s["m"] / (1 - s["M"] * mu(t + 1)) + (1 - mu(t)) * g / (1 - s["M"])
    return p - lr * _agreeing(ahead / (np.sqrt(s["v"] / (1 - b2**t)) + eps), g, cautious)


def radam(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False,
    cautious=False,
):  # fmt: skip
    p, g = _decay(p, g, lr, weight_decay, decoupled_weight_decay)
    b2 = betas[1]
    u = _moments(g, s, *betas)
    t = s["t"]
    r8 = 2 / (1 - b2) - 1
    r = r8 - 2 * t * b2**t / (1 - b2**t)
    if r > 5:
        length = np.sqrt((r - 4) * (r - 2) * r8 / ((r8 - 4) * (r8 - 2) * r))
        u = u * length * np.sqrt(1 - b2**t) / (np.sqrt(s["v"]) + eps)
    return p - lr * _agreeing(u, g, cautious)


def adamax(p, g, s, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, cautious=False):
    g = g + weight_decay * p
    b1, b2 = betas
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["n"] = np.maximum(b2 * s.get("n", 0.0), np.abs(g) + eps)
    return p - lr * _agreeing(s["m"] / ((1 - b1 ** s["t"]) * s["n"]), g, cautious)


def adopt(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0.0, decoupled_weight_decay=False,
    clip_exp=0.25, cautious=False,
):  # fmt: skip
    decayed, g = _decay(p, g, lr, weight_decay, decoupled_weight_decay)
    b1, b2 = betas
    s["t"] = s.get("t", 0) + 1
    if s["t"] == 1:
        s["v"], s["m"] = g * g, np.zeros_like(g)
        return p
    n = g / np.maximum(np.sqrt(s["v"]), eps)
    if clip_exp is not None:
        bound = (s["t"] - 1) ** clip_exp
        n = np.clip(n, -bound, bound)
    s["m"] = b1 * s["m"] + (1 - b1) * n
    s["v"] = b2 * s["v"] + (1 - b2) * g * g
    return decayed - lr * _agreeing(s["m"], g, cautious)


def ademamix(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.999, 0.9999), alpha=2.0, beta3_warmup=None, alpha_warmup=None,
    eps=1e-8, weight_decay=0.0, cautious=False,
):  # fmt: skip
    b1, b2, b3 = betas
    t = s.get("t", 0) + 1
    a = alpha if not alpha_warmup else min(t / alpha_warmup, 1) * alpha
    slow = b3
    if beta3_warmup and t < beta3_warmup:
        done = t / beta3_warmup
        slow = min(b3, np.exp(np.log(b1) * np.log(b3) / ((1 - done) * np.log(b3) + done * np.log(b1))))
    s["m2"] = slow * s.get("m2", 0.0) + (1 - slow) * g
    fast = _moments(g, s, b1, b2)
    u = _agreeing((fast + a * s["m2"]) / (np.sqrt(s["v"] / (1 - b2**t)) + eps), g, cautious)
    return p - lr * weight_decay * p - lr * u


def adan(
    p, g, s, *, lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, no_prox=False,
    cautious=False,
):  # fmt: skip
    b1, b2, b3 = betas
    d = g - s["y"] if "y" in s else np.zeros_like(g)
    s["y"] = g.copy()
    s["t"] = t = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["e"] = b2 * s.get("e", 0.0) + (1 - b2) * d
    s["n"] = b3 * s.get("n", 0.0) + (1 - b3) * (g + b2 * d) ** 2
    u = s["m"] / (1 - b1**t) + b2 * s["e"] / (1 - b2**t)
    u = _agreeing(u / (np.sqrt(s["n"] / (1 - b3**t)) + eps), g, cautious)
    if no_prox:
        return p - lr * weight_decay * p - lr * u
    return (p - lr * u) / (1 + lr * weight_decay)


def adam_atan2(
    p, g, s, *, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, a=1.27, b=1.0, cautious=False
):  # fmt: skip
    m_hat = _moments(g, s, *betas)
    v_hat = s["v"] / (1 - betas[1] ** s["t"])
    u = _agreeing(a * np.arctan2(m_hat, b * np.sqrt(v_hat)), g, cautious)
    return p - lr * weight_decay * p - lr * u


def sophia(p, g, s, *, lr=1e-4, betas=(0.965, 0.99), rho=0.04, weight_decay=0.1, eps=1e-12, bs=5120):
    s["m"] = betas[0] * s.get("m", 0.0) + (1 - betas[0]) * g
    u = np.clip(s["m"] / np.maximum(rho * bs * s.get("h", 0.0), eps), -1, 1)
    return p - lr * weight_decay * p - lr * u


def sophia_h(p, g, s, *, rho=0.01, probe="rademacher", **kw):
    return sophia(p, g, s, rho=rho, bs=1, **kw)


def sophia_every_third(p, g, s, *, betas=(0.965, 0.99), of_gradient=True, **kw):
    """Sophia with a new estimate of the curvature before each third step: the gradient, or its square."""
    k = s["k"] = s.get("k", -1) + 1
    if k % 3 == 0:
        s["h"] = betas[1] * s.get("h", 0.0) + (1 - betas[1]) * (g * g if of_gradient else g)
    return sophia(p, g, s, betas=betas, **kw)


def sophia_h_every_third(p, g, s, *, rho=0.01, probe="rademacher", **kw):
    return sophia_every_third(p, g, s, of_gradient=False, rho=rho, bs=1, **kw)


def _schedule_free(y, s, momentum, lr, warmup_steps, r, weight_lr_power, direction):
    """One step of the three sequences, each kept; the next y."""
    k = s.setdefault("k", 0)
    s["k"] += 1
    w = lr * min(1, (k + 1) / warmup_steps) if warmup_steps else lr
    s["lr_max"] = max(s.get("lr_max", 0.0), w)
    weight = (k + 1) ** r * s["lr_max"] ** weight_lr_power
    s["weight_sum"] = s.get("weight_sum", 0.0) + weight
    c = weight / s["weight_sum"] if s["weight_sum"] else 0.0
    s["z"] = s.get("z", y) - w * direction
    s["x"] = (1 - c) * s.get("x", y) + c * s["z"]
    return momentum * s["x"] + (1 - momentum) * s["z"]


def schedule_free_sgd(
    p, g, s, *, lr=1.0, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0
):  # fmt: skip
    direction = g + weight_decay * p
    return _schedule_free(p, s, momentum, lr, warmup_steps, r, weight_lr_power, direction)


def schedule_free_adamw(
    p, g, s, *, lr=0.0025, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0,
    weight_lr_power=2.0,
):  # fmt: skip
    b1, b2 = betas
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g
    v_hat = s["v"] / (1 - b2 ** (s.get("k", 0) + 1))
    direction = g / (np.sqrt(v_hat) + eps) + weight_decay * p
    return _schedule_free(p, s, b1, lr, warmup_steps, r, weight_lr_power, direction)


def lamb(
    ps, gs, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01, variant="paper",
    max_grad_norm=1.0, bias_correction=True, cautious=False,
):  # fmt: skip
    """Over the whole model: one variant clips by the norm of all gradients."""
    if variant == "nvlamb" and max_grad_norm is not None:
        total = np.sqrt(sum((g**2).sum() for g in gs))
        gs = [g / max(1.0, total / max_grad_norm) for g in gs]
    states = s.setdefault("each", [{} for _ in ps])
    moved = []
    for p, g, own in zip(ps, gs, states, strict=True):
        if not p.size:
            moved.append(p)
            continue
        m_hat = _moments(g, own, *betas)
        m, v = own["m"], own["v"]
        if bias_correction:
            m, v = m_hat, v / (1 - betas[1] ** own["t"])
        u = _agreeing(m / (np.sqrt(v) + eps), g, cautious) + weight_decay * p
        a, b = np.linalg.norm(p), np.linalg.norm(u)
        q = a / b if a > 0 and b > 0 else 1.0
        q = min(q, 1.0) if variant == "lambc" else q
        q = 1.0 if variant == "nvlamb" and weight_decay == 0 else q
        moved.append(p - lr * q * u)
    return moved


def lars(
    p, g, s, *, lr=0.1, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, nesterov=False,
    variant="paper",
):  # fmt: skip
    a, b = np.linalg.norm(p), np.linalg.norm(g)
    q = 1.0
    if trust_coefficient is not None:
        if a > 0 and b > 0:
            q = trust_coefficient * a / (b + weight_decay * a + eps)
        q = min(q / lr, 1.0) if variant == "larc" else q
    d = q * (g + weight_decay * p)
    if momentum == 0:
        return p - lr * d
    if variant == "paper":
        s["b"] = momentum * s.get("b", 0.0) + lr * d
        return p - (lr * d + momentum * s["b"] if nesterov else s["b"])
    s["b"] = momentum * s.get("b", 0.0) + d
    return p - lr * (d + momentum * s["b"] if nesterov else s["b"])


def stable_adamw(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.99), eps=1e-6, weight_decay=1e-2, cautious=False
):  # fmt: skip
    s["t"] = t = s.get("t", 0) + 1
    b1, b2 = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in betas)
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g
    k = lr / max(1.0, np.sqrt(np.mean(g * g / np.maximum(s["v"], eps**2))))
    u = _agreeing(s["m"] / (np.sqrt(s["v"]) + eps), g, cautious)
    return (1 - k * weight_decay) * p - k * u


def mars(
    p, g, s, *, lr=3e-3, betas=(0.95, 0.99), eps=1e-8, weight_decay=0.0, amsgrad=False, gamma=0.025,
    optimize_1d=False, lr_1d_factor=1.0, betas_1d=(0.9, 0.95), weight_decay_1d=0.1,
):  # fmt: skip
    if p.ndim < 2 and not optimize_1d:
        return adamw(
            p, g, s, lr=lr * lr_1d_factor, betas=betas_1d, eps=eps, weight_decay=weight_decay_1d,
            amsgrad=amsgrad,
        )  # fmt: skip
    b1 = betas[0]
    c = g + gamma * b1 / (1 - b1) * (g - s.get("y", g))
    s["y"] = g.copy()
    length = np.sqrt((c**2).sum())
    c = c / length if length > 1 else c
    return adamw(p, c, s, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)


def adafactor(
    p, g, s, *, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, machine_eps=2.0**-52
):  # fmt: skip
    eps1, eps2 = machine_eps if eps[0] is None else eps[0], eps[1]
    s["t"] = t = s.get("t", 0) + 1
    a = max(eps2, np.sqrt(np.mean(p**2))) * min(lr, 1 / np.sqrt(t))
    w = t**beta2_decay
    p = p - lr * weight_decay * p
    if p.ndim >= 2:
        rows, columns = (g**2).mean(-1, keepdims=True), (g**2).mean(-2, keepdims=True)
        s["R"] = (1 - w) * s.get("R", 0.0) + w * rows
        s["C"] = (1 - w) * s.get("C", 0.0) + w * columns
        v = s["R"] @ s["C"] / np.maximum(s["R"].mean(-2, keepdims=True), eps1)
    else:
        v = s["V"] = (1 - w) * s.get("V", 0.0) + w * g**2
    u = g / np.sqrt(np.maximum(v, eps1**2))
    return p - a * u / max(1.0, np.sqrt(np.mean(u**2)) / d)


def prodigy(
    ps, gs, s, *, lr=1.0, betas=(0.9, 0.999), beta3=None, eps=1e-8, weight_decay=0.0, decouple=True,
    use_bias_correction=False, safeguard_warmup=False, d0=1e-6, d_coef=1.0, growth_rate=np.inf, slice_p=1,
):  # fmt: skip
    """All tensors at once: lists of parameters and gradients, and one state."""
    b1, b2 = betas
    b3 = np.sqrt(b2) if beta3 is None else beta3
    d, k = s.setdefault("d", d0), s.setdefault("k", 0)
    e = d * lr * (np.sqrt(1 - b2 ** (k + 1)) / (1 - b1 ** (k + 1)) if use_bias_correction else 1.0)
    if not decouple:
        gs = [g + weight_decay * p for p, g in zip(ps, gs, strict=True)]
    tensors = s.setdefault("tensors", [{} for _ in ps])
    s["N"], total = b3 * s.get("N", 0.0), 0.0
    for p, g, own in zip(ps, gs, tensors, strict=True):
        near, here = g.ravel()[::slice_p], p.ravel()[::slice_p]
        start = own.setdefault("p0", here.copy())
        s["N"] += d / d0 * e * np.dot(near, start - here)
        own["m"] = b1 * own.get("m", 0.0) + (1 - b1) * d * g
        own["v"] = b2 * own.get("v", 0.0) + (1 - b2) * d * d * g * g
        own["s"] = b3 * own.get("s", 0.0) + d / d0 * (d if safeguard_warmup else e) * near
        total += np.abs(own["s"]).sum()
    if total == 0:
        return ps
    estimate = d_coef * s["N"] / total
    new = max(d, estimate) if d == d0 else d
    s["d_max"] = max(s.get("d_max", d0), estimate)
    s["d"] = min(s["d_max"], new * growth_rate)
    s["k"] = k + 1
    decay = e * weight_decay if decouple else 0.0
    return [
        p - decay * p - e * own["m"] / (np.sqrt(own["v"]) + s["d"] * eps)
        for p, own in zip(ps, tensors, strict=True)
    ]


def _orthogonalised(u, coefficients, eps, steps):
    a, b, c = coefficients
    x = u.T if u.shape[0] > u.shape[1] else u
    x = x / max(np.sqrt((x**2).sum()), eps)
    for _ in range(int(steps)):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if u.shape[0] > u.shape[1] else x


def muon(
    p, g, s, *, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True,
    ns_coefficients=(3.4445, -4.775, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn=None, use_muon=None,
    adamw_lr_ratio=1.0, adamw_betas=(0.9, 0.95), adamw_eps=1e-10, adamw_weight_decay=None,
):  # fmt: skip
    if use_muon is False or (use_muon is None and p.ndim < 2):
        decay = weight_decay if adamw_weight_decay is None else adamw_weight_decay
        kw = {"lr": lr * adamw_lr_ratio, "betas": adamw_betas, "eps": adamw_eps, "weight_decay": decay}
        return adamw(p, g, s, **kw)
    s["b"] = momentum * s.get("b", 0.0) + (1 - momentum) * g
    u = (1 - momentum) * g + momentum * s["b"] if nesterov else s["b"]
    flat = u.reshape(u.shape[0] if u.ndim else 1, -1)
    rows, cols = flat.shape
    scale = 0.2 * max(rows, cols) ** 0.5 if adjust_lr_fn == "match_rms_adamw" else max(1, rows / cols) ** 0.5
    o = _orthogonalised(flat, ns_coefficients, eps, ns_steps).reshape(p.shape)
    return p - lr * weight_decay * p - lr * scale * o


def _has_factor(shape, max_precond_dim, precondition_1d):
    return [n <= max_precond_dim and (len(shape) > 1 or precondition_1d) for n in shape]


def _grams(g, has):
    axes = range(g.ndim)
    return [np.tensordot(g, g, ([a for a in axes if a != i],) * 2) if h else None for i, h in enumerate(has)]


def _along_modes(x, matrices):
    """Each mode of x multiplied by its matrix from the left."""
    for i, matrix in enumerate(matrices):
        if matrix is not None:
            x = np.moveaxis(np.tensordot(matrix, x, (1, i)), 0, i)
    return x


def _transposed(matrices):
    return [None if m is None else m.T for m in matrices]


def soap(
    p, g, s, *, lr=3e-3, betas=(0.95, 0.95), shampoo_beta=-1.0, eps=1e-8, weight_decay=0.01,
    precondition_frequency=10, max_precond_dim=10000, precondition_1d=False, correct_bias=True,
):  # fmt: skip
    b1, b2 = betas
    bs = b2 if shampoo_beta < 0 else shampoo_beta
    s["t"] = s.get("t", 0) + 1
    grams = _grams(g, _has_factor(p.shape, max_precond_dim, precondition_1d))
    if s["t"] == 1:
        s["L"] = [None if x is None else (1 - bs) * x for x in grams]
        s["Q"] = [None if x is None else np.linalg.eigh(x)[1][:, ::-1] for x in s["L"]]
        s["m"], s["v"] = np.zeros_like(p), np.zeros_like(p)
        return p
    k = s["t"] - 1
    s["m"] = b1 * s["m"] + (1 - b1) * g
    s["v"] = b2 * s["v"] + (1 - b2) * _along_modes(g, _transposed(s["Q"])) ** 2
    n = _along_modes(s["m"], _transposed(s["Q"])) / (np.sqrt(s["v"]) + eps)
    f = np.sqrt(1 - b2**k) / (1 - b1**k) if correct_bias else 1.0
    p = p - lr * f * _along_modes(n, s["Q"])
    p = p - lr * weight_decay * p
    s["L"] = [None if x is None else bs * old + (1 - bs) * x for old, x in zip(s["L"], grams, strict=True)]
    if k % precondition_frequency == 0:
        for i, (factor, q) in enumerate(zip(s["L"], s["Q"], strict=True)):
            if factor is not None:
                power = factor @ q
                order = np.argsort(-np.diag(q.T @ power))
                s["v"] = np.take(s["v"], order, axis=i)
                s["Q"][i] = np.linalg.qr(power[:, order])[0]
    return p


def _inverse_root(factor, eps, damping, count):
    values, vectors = np.linalg.eigh(factor)
    values = np.maximum(values, 0)
    if values.max() == 0:
        return np.eye(len(factor))
    values = values + (eps * values.max() if damping == "relative" else eps)
    return vectors @ np.diag(values ** (-1 / (2 * count))) @ vectors.T


def shampoo(
    p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, momentum=0.0, nesterov=False,
    decoupled_weight_decay=True, damping="relative", grafting="adam", grafting_eps=1e-8,
    precondition_frequency=10, start_preconditioning_step=10, max_precond_dim=1024, precondition_1d=False,
):  # fmt: skip
    b1, b2 = betas
    s["t"] = t = s.get("t", 0) + 1
    if not decoupled_weight_decay:
        g = g + weight_decay * p
    w, f2 = (1 - b2, 1 - b2**t) if b2 < 1 else (1.0, 1.0)
    grams = _grams(g, _has_factor(p.shape, max_precond_dim, precondition_1d))
    before = s.get("H", [0.0] * p.ndim)
    s["H"] = [None if x is None else b2 * old + w * x for old, x in zip(before, grams, strict=True)]
    count = sum(x is not None for x in grams)
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    m_hat = s["m"] / (1 - b1**t)
    start = start_preconditioning_step
    if t == start or (t > start and t % precondition_frequency == 0):
        s["R"] = [None if x is None else _inverse_root(x / f2, eps, damping, count) for x in s["H"]]
    d = m_hat
    if grafting == "adam":
        s["v"] = b2 * s.get("v", 0.0) + w * g * g
        d = m_hat / (np.sqrt(s["v"] / f2) + grafting_eps)
    elif grafting == "adagrad":
        s["v"] = s.get("v", 0.0) + g * g
        d = m_hat / (np.sqrt(s["v"]) + grafting_eps)
    u = d
    if t >= start and count:
        u = _along_modes(m_hat, s["R"])
        size = np.sqrt((u**2).sum())
        if grafting is not None and size > 0:
            u = u * np.sqrt((d**2).sum()) / size
    if momentum > 0:
        s["b"] = momentum * s.get("b", 0.0) + u
        u = u + momentum * s["b"] if nesterov else s["b"]
    return p - (lr * weight_decay * p if decoupled_weight_decay else 0.0) - lr * u


ORACLES = {
    "SGD": sgd, "Adam": adam, "AdamW": adamw, "Lion": lion, "Adagrad": adagrad, "Adadelta": adadelta,
    "RMSprop": rmsprop, "NAdam": nadam, "RAdam": radam, "Adamax": adamax, "ADOPT": adopt,
    "AdEMAMix": ademamix, "Adan": adan, "AdamAtan2": adam_atan2, "SophiaG": sophia, "SophiaH": sophia_h,
    "ScheduleFreeSGD": schedule_free_sgd, "ScheduleFreeAdamW": schedule_free_adamw,
    "MARS": mars, "Adafactor": adafactor,
    "Muon": muon, "SOAP": soap, "Shampoo": shampoo,
}  # fmt: skip
