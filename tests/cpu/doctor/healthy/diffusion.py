"""A denoising diffusion model of a circle."""

import math

import torch
from torch import nn

torch.manual_seed(0)
T = 50
beta = torch.linspace(1e-4, 0.2, T)
ab = torch.cumprod(1 - beta, 0)


class Eps(nn.Module):
    def __init__(self):
        super().__init__()
        self.t = nn.Embedding(T, 16)
        self.n = nn.Sequential(nn.Linear(18, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        return self.n(torch.cat([x, self.t(t)], 1))


net = Eps()
opt = torch.optim.AdamW(net.parameters(), 2e-3)
for _it in range(200):
    th = torch.rand(128) * 2 * math.pi
    x0 = torch.stack([th.cos(), th.sin()], 1)
    t = torch.randint(0, T, (128,))
    n = torch.randn_like(x0)
    xt = ab[t].sqrt()[:, None] * x0 + (1 - ab[t]).sqrt()[:, None] * n
    loss = nn.functional.mse_loss(net(xt, t), n)
    opt.zero_grad()
    loss.backward()
    opt.step()


@torch.no_grad()
def sample(n):
    x = torch.randn(n, 2)
    for t in reversed(range(T)):
        e = net(x, torch.full((n,), t))
        x = (x - beta[t] / (1 - ab[t]).sqrt() * e) / (1 - beta[t]).sqrt() + (
            beta[t].sqrt() * torch.randn_like(x) if t else 0
        )
    return x


print(loss.item(), sample(64).norm(dim=1).mean().item())
