"""Accuracy on part of the training data beside a clean validation."""

import torch
from torch import nn

torch.manual_seed(0)
X = torch.randn(300, 8)
Y = (X[:, 0] > 0).long()
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for _ep in range(6):
    for _i in range(12):
        b = torch.randint(0, 240, (20,))
        loss = nn.functional.cross_entropy(net(X[b]), Y[b])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        print(
            (net(X[:100]).argmax(1) == Y[:100]).float().mean().item(),
            (net(X[240:]).argmax(1) == Y[240:]).float().mean().item(),
        )
