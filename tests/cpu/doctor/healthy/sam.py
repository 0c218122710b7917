"""Sharpness-aware minimisation by hand: two backwards per step, weights moved in between."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _i in range(80):
    x = torch.randn(32, 6)
    y = (x[:, 0] > 0).long()
    nn.functional.cross_entropy(net(x), y).backward()
    with torch.no_grad():
        n = torch.sqrt(sum(p.grad.pow(2).sum() for p in net.parameters()))
        eps = [0.05 * p.grad / (n + 1e-12) for p in net.parameters()]
        for p, e in zip(net.parameters(), eps, strict=False):
            p.add_(e)
    opt.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    with torch.no_grad():
        for p, e in zip(net.parameters(), eps, strict=False):
            p.sub_(e)
    opt.step()
    opt.zero_grad()
print(net(x).shape)
