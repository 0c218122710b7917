"""Soft actor-critic: two critics with moving targets, a learned temperature, a replay buffer."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, o))


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(3, 2)

    def forward(self, s):
        mean, log_std = self.net(s).chunk(2, -1)
        dist = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        u = dist.rsample()
        a = torch.tanh(u)
        logp = (dist.log_prob(u) - torch.log(1 - a.pow(2) + 1e-6)).sum(-1, keepdim=True)
        return a, logp


actor, q1, q2 = Actor(), mlp(4, 1), mlp(4, 1)
t1, t2 = copy.deepcopy(q1), copy.deepcopy(q2)
for p in (*t1.parameters(), *t2.parameters()):
    p.requires_grad = False
log_alpha = torch.zeros(1, requires_grad=True)
a_opt = torch.optim.Adam(actor.parameters(), lr=3e-4)
q_opt = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=3e-4)
al_opt = torch.optim.Adam([log_alpha], lr=3e-4)
buffer = []
s = torch.zeros(3)
for step in range(260):
    with torch.no_grad():
        a, _ = actor(s[None])
    r = -(s[0] ** 2) - 0.1 * a[0, 0] ** 2
    s2 = 0.9 * s + torch.cat([a[0], s[:2] * 0.1]) + 0.05 * torch.randn(3)
    buffer.append((s, a[0], r, s2))
    s = s2 if step % 40 else torch.randn(3)
    if step < 60:
        continue
    idx = torch.randint(0, len(buffer), (32,))
    S, A, R, S2 = (torch.stack([buffer[i][k] for i in idx]) for k in range(4))
    with torch.no_grad():
        A2, lp2 = actor(S2)
        x2 = torch.cat([S2, A2], 1)
        target = R[:, None] + 0.99 * (torch.min(t1(x2), t2(x2)) - log_alpha.exp() * lp2)
    x = torch.cat([S, A], 1)
    q_loss = F.mse_loss(q1(x), target) + F.mse_loss(q2(x), target)
    q_opt.zero_grad()
    q_loss.backward()
    q_opt.step()
    pi, lp = actor(S)
    xp = torch.cat([S, pi], 1)
    a_loss = (log_alpha.exp().detach() * lp - torch.min(q1(xp), q2(xp))).mean()
    a_opt.zero_grad()
    a_loss.backward()
    a_opt.step()
    al_loss = -(log_alpha * (lp.detach() - 1)).mean()
    al_opt.zero_grad()
    al_loss.backward()
    al_opt.step()
    with torch.no_grad():
        for p, t in zip(
            [*q1.parameters(), *q2.parameters()], [*t1.parameters(), *t2.parameters()], strict=False
        ):
            t.mul_(0.995).add_(p, alpha=0.005)
print(q_loss.item(), a_loss.item(), log_alpha.item())
