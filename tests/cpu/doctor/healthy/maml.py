"""Gradients through an inner step."""

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), 1e-3)
for _it in range(40):
    total = 0
    for _task in range(4):
        a = torch.rand(1) * 2 + 0.5
        x = torch.randn(10, 1)
        y = torch.sin(a * x)
        p = dict(net.named_parameters())
        g = torch.autograd.grad(
            nn.functional.mse_loss(functional_call(net, p, (x,)), y), list(p.values()), create_graph=True
        )
        fast = {k: v - 0.05 * gg for (k, v), gg in zip(p.items(), g, strict=False)}
        xq = torch.randn(10, 1)
        total = total + nn.functional.mse_loss(functional_call(net, fast, (xq,)), torch.sin(a * xq))
    opt.zero_grad()
    (total / 4).backward()
    opt.step()
print(total.item())
