"""Configurations every numeric claim is tried on: each option at least once, decay never zero by accident."""

import torch

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.01, "weight_decay": 0.3, "momentum": 0.9, "cautious": True}),
    ("SGD", {"lr": 0.01, "weight_decay": 0.3, "momentum": 0.9, "nesterov": True, "cautious": True}),
    *((name, {"lr": 0.01, "weight_decay": 0.3, "cautious": True}) for name in (
        "Adam", "AdamW", "Lion", "NAdam", "RAdam", "Adamax", "ADOPT", "AdEMAMix", "Adan", "AdamAtan2", "LAMB",
        "StableAdamW")),
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
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5,
                 "eps": 1e-3}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "weight_decay": 0.1, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.003, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.9,
                 "centered": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("ADOPT", {}),
    ("ADOPT", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1, "clip_exp": 0.1}),
    ("ADOPT", {"weight_decay": 0.1, "decoupled_weight_decay": True, "clip_exp": None}),
    ("AdEMAMix", {}),
    ("AdEMAMix", {"lr": 0.01, "betas": (0.8, 0.95, 0.99), "alpha": 5.0, "beta3_warmup": 20,
                  "alpha_warmup": 30, "eps": 1e-3, "weight_decay": 0.1}),
    ("Adan", {}),
    ("Adan", {"lr": 0.01, "betas": (0.9, 0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adan", {"weight_decay": 0.1, "no_prox": True}),
    ("AdamAtan2", {}),
    ("AdamAtan2", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "a": 1.0, "b": 0.5}),
    ("SophiaG", {"lr": 0.01}),
    ("SophiaG", {"lr": 0.01, "betas": (0.8, 0.95), "rho": 0.1, "weight_decay": 0.3, "eps": 0.5, "bs": 16}),
    ("SophiaH", {"lr": 0.01, "eps": 0.5}),
    ("SophiaH", {"lr": 0.01, "betas": (0.8, 0.95), "rho": 0.1, "weight_decay": 0.3, "eps": 0.5}),
    ("ScheduleFreeSGD", {"lr": 0.01}),
    ("ScheduleFreeSGD", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 7, "r": 0.5,
                         "weight_lr_power": 1.0}),
    ("ScheduleFreeAdamW", {}),
    ("ScheduleFreeAdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1,
                           "warmup_steps": 7, "r": 0.5, "weight_lr_power": 1.0}),
    ("LAMB", {}),
    ("LAMB", {"lr": 0.02, "weight_decay": 0.1, "bias_correction": False, "variant": "lambc"}),
    ("LAMB", {"lr": 0.02, "weight_decay": 0.1, "variant": "nvlamb"}),
    ("LAMB", {"lr": 0.02, "weight_decay": 0.0, "variant": "nvlamb", "max_grad_norm": 0.3}),
    ("LAMB", {"lr": 0.02, "weight_decay": 0.1, "variant": "nvlamb", "max_grad_norm": None}),
    ("LAMB", {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.3}),
    *(("LARS", {"weight_decay": 0.1, "variant": v, "nesterov": n})
      for v in ("paper", "post", "larc") for n in (False, True)),
    ("LARS", {"lr": 0.01, "weight_decay": 0.1, "trust_coefficient": None}),
    ("LARS", {"lr": 2.0, "momentum": 0.0, "weight_decay": 0.1, "eps": 0.1}),
    ("LARS", {"lr": 2.0, "momentum": 0.0, "weight_decay": 0.1, "nesterov": True, "variant": "post"}),
    ("LARS", {"lr": 2.0, "momentum": 0.8, "weight_decay": 0.1, "eps": 0.1}),
    ("MARS", {}),
    ("MARS", {"lr": 0.01, "amsgrad": True, "lr_1d_factor": 0.5, "betas_1d": (0.7, 0.8)}),
    ("MARS", {"lr": 0.01, "optimize_1d": True, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1,
              "gamma": 0.2}),
    ("Prodigy", {}),
    ("Prodigy", {"lr": 0.5, "d0": 1e-3, "beta3": 0.9, "weight_decay": 9.0, "decouple": False,
                 "safeguard_warmup": True}),
    ("Prodigy", {"d0": 1e-3, "d_coef": 2.0, "growth_rate": 1.5, "slice_p": 5}),
    ("Prodigy", {"d0": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1,
                 "use_bias_correction": True}),
    ("Adafactor", {"eps": (1e-7, 1e-3)}),
    ("Adafactor", {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-4, 0.1), "d": 2.0, "weight_decay": 0.1}),
    ("StableAdamW", {}),
    ("StableAdamW", {"lr": 0.1, "betas": (0.7, 0.8), "eps": 1e-2, "weight_decay": 0.3}),
]  # fmt: skip

IDS = [f"{name}-{'-'.join(f'{k}={v}' for k, v in kw.items()) or 'defaults'}" for name, kw in CASES]

# The last case of each class has most of its options on; claims that do not depend on them are tried there.
ONE_EACH = list({name: (name, kw) for name, kw in CASES}.values())
ONE_EACH_IDS = [name for name, _ in ONE_EACH]

# Those that torch has too, with torch's options.
IN_TORCH = [(name, kw) for name, kw in CASES if hasattr(torch.optim, name) and "cautious" not in kw]
IN_TORCH_IDS = [i for (name, kw), i in zip(CASES, IDS, strict=True) if (name, kw) in IN_TORCH]

# How near float64 is to torch, relative to the distance moved. torch keeps NAdam's product of momenta in
# float32, which costs up to 5e-9 (most seen here 1.7e-9).
NEAR_TORCH = {"NAdam": 5e-9}

# A matrix, a vector, a kernel, a scalar, nothing, one element, and the widths around a vector register.
SHAPES = [(16, 24), (24,), (3, 2, 3, 3), (), (0, 3), (1,), (7,), (8,), (9,), (15,), (16,), (17,), (33,)]
