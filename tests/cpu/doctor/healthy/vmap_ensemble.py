"""An ensemble trained by torch.func: vmap over grad."""

import copy

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

torch.manual_seed(0)
models = [nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)) for _ in range(4)]
params, buffers = stack_module_state(models)
base = copy.deepcopy(models[0]).to("meta")


def loss_fn(p, b, x, y):
    return nn.functional.cross_entropy(functional_call(base, (p, b), (x,)), y)


step = vmap(grad(loss_fn), in_dims=(0, 0, None, None))
opt = torch.optim.SGD(list(params.values()), lr=0.5)
for _i in range(60):
    x = torch.randn(32, 6)
    y = (x[:, 0] > 0).long()
    g = step(params, buffers, x, y)
    for k, p in params.items():
        p.grad = g[k]
    opt.step()
with torch.no_grad():
    x = torch.randn(100, 6)
    out = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers)
print((out.argmax(-1) == (x[:, 0] > 0)).float().mean(1))
