"""Proximal policy optimisation on a toy."""

import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(0)


class AC(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
        self.pi = nn.Linear(32, 3)
        self.v = nn.Linear(32, 1)

    def forward(self, s):
        h = self.b(s)
        return Categorical(logits=self.pi(h)), self.v(h).squeeze(-1)


ac = AC()
opt = torch.optim.Adam(ac.parameters(), 3e-3)
for update in range(15):
    S, A, L, R, V = [], [], [], [], []
    with torch.no_grad():
        for _t in range(32):
            s = torch.randn(8, 4)
            d, v = ac(s)
            a = d.sample()
            S.append(s)
            A.append(a)
            L.append(d.log_prob(a))
            R.append((a == s[:, :3].argmax(1)).float())
            V.append(v)
    S, A, L, R, V = map(torch.cat, (S, A, L, R, V))
    adv = R - V
    adv = (adv - adv.mean()) / (adv.std() + 1e-8)
    for _ep in range(4):
        for b in torch.randperm(len(S)).split(64):
            d, v = ac(S[b])
            ratio = (d.log_prob(A[b]) - L[b]).exp()
            loss = (
                -torch.min(ratio * adv[b], ratio.clamp(0.8, 1.2) * adv[b]).mean()
                + 0.5 * (v - R[b]).pow(2).mean()
                - 0.01 * d.entropy().mean()
            )
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(ac.parameters(), 0.5)
            opt.step()
    print(update, R.mean().item())
