"""A later stage gives more parameters to the optimizer."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
opt = torch.optim.Adam(net[2].parameters(), lr=1e-3)
for i in range(120):
    if i == 60:
        opt.add_param_group({"params": net[0].parameters(), "lr": 1e-4})
    x = torch.randn(32, 8)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
print(loss.item())
