"""One small task for every client, and what torch's own optimizer and a plain loop make of it."""

import torch
from torch import nn

import kudari.optim
from kudari.schedules import cosine, warmup

EPOCHS, BATCH, SAMPLES, LR = 3, 8, 64, 1e-2
STEPS = EPOCHS * SAMPLES // BATCH
SCHEDULE = warmup(4) >> cosine(floor=0.1)
# One rounding of a float32 weight below 0.5 is 3e-8; after 24 steps 2.1e-7 was the most seen.
NEAR = {"rtol": 0.0, "atol": 1e-6}


def data():
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, 8, generator=gen)
    return x, (x[:, :3] + 0.3 * torch.randn(SAMPLES, 3, generator=gen)).argmax(1)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def weights(module):
    return [p.detach().clone() for p in module.parameters()]


class Ours:
    """Our optimizer, and the schedule's scheduler."""

    @staticmethod
    def optimizer(params):
        return kudari.optim.AdamW(params, lr=LR, weight_decay=0.1)

    @staticmethod
    def scheduler(optimizer, steps=STEPS):
        return SCHEDULE.attach(optimizer, steps)


class Torchs:
    """torch's class of the same name, and a LambdaLR of the same factors."""

    @staticmethod
    def optimizer(params):
        return torch.optim.AdamW(params, lr=LR, weight_decay=0.1)

    @staticmethod
    def scheduler(optimizer, steps=STEPS):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, SCHEDULE.bind(steps))


def rates(steps=STEPS):
    """The learning rate of every step."""
    bound = SCHEDULE.bind(steps)
    return [LR * bound(step) for step in range(steps)]


def same(a, b):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, **NEAR)


def watch_rates(optimizer):
    """A list that fills with the learning rate of every step that is taken."""
    seen = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(float(o.param_groups[0]["lr"])))
    return seen


def schedule_free(params):
    return kudari.optim.ScheduleFreeAdamW(params, lr=LR, weight_decay=0.1, warmup_steps=4)


def plain_schedule_free():
    """Weights of a plain loop with Schedule-Free, at the average."""
    module, (x, y) = model(), data()
    optimizer = schedule_free(module.parameters())
    optimizer.train()
    for step in range(STEPS):
        at = slice(step * BATCH % SAMPLES, step * BATCH % SAMPLES + BATCH)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[at]), y[at]).backward()
        optimizer.step()
    optimizer.eval()
    return weights(module)
