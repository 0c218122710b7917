"""LoRA: frozen base weights, a zero-initialised B, and only A and B in the optimizer."""

import torch
from torch import nn

torch.manual_seed(16)


class LoRA(nn.Module):
    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / rank)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + (x @ self.a.T) @ self.b.T


net = nn.Sequential(
    LoRA(nn.Linear(8, 32)), nn.ReLU(), LoRA(nn.Linear(32, 32)), nn.ReLU(), LoRA(nn.Linear(32, 3))
)
optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2)
for _step in range(100):
    x = torch.randn(64, 8)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
