"""Folds: a model and an optimizer per fold, with evaluation of the held-out rows."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(200, 6)
y = (x[:, 0] > 0).float()
for fold in range(6):
    te = torch.arange(200) % 6 == fold
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _e in range(20):
        net.train()
        loss = nn.functional.binary_cross_entropy_with_logits(net(x[~te]).squeeze(1), y[~te])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        print(((net(x[te]).squeeze(1) > 0).float() == y[te]).float().mean().item())
