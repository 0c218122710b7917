"""Activation checkpointing: forward runs twice."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList(
            [nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(3)]
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        for block in self.body:
            x = x + checkpoint(block, x, use_reentrant=False)
        return self.head(x)


net = Net()
opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
for _ in range(100):
    x = torch.randn(64, 16)
    loss = nn.functional.cross_entropy(net(x), x[:, :4].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
