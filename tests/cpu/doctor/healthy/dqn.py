"""DQN with a target network and a replay buffer."""

import copy
import random

import torch
from torch import nn

torch.manual_seed(0)
random.seed(0)
q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
tgt = copy.deepcopy(q)
opt = torch.optim.Adam(q.parameters(), lr=1e-3)
buf = []
s = torch.randn(4)
for t in range(300):
    with torch.no_grad():
        a = q(s.unsqueeze(0)).argmax(1).item() if random.random() > 0.1 else random.randrange(2)
    s2 = torch.randn(4)
    r = float(s[0] > 0) if a else 0.2
    buf.append((s, a, r, s2))
    s = s2
    if len(buf) >= 32:
        b = random.sample(buf, 32)
        S = torch.stack([i[0] for i in b])
        A = torch.tensor([i[1] for i in b])
        R = torch.tensor([i[2] for i in b])
        S2 = torch.stack([i[3] for i in b])
        with torch.no_grad():
            y = R + 0.9 * tgt(S2).max(1)[0]
        loss = nn.functional.smooth_l1_loss(q(S).gather(1, A[:, None]).squeeze(1), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if t % 50 == 0:
        tgt.load_state_dict(q.state_dict())
print(loss.item())
