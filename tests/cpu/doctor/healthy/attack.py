"""A classifier, then an attack on it in eval mode."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for _i in range(80):
    x = torch.randn(32, 6)
    y = (x[:, 0] > 0).long()
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
net.eval()
ok = 0
for _i in range(40):
    x = torch.randn(16, 6, requires_grad=True)
    y = (x[:, 0] > 0).long()
    loss = nn.functional.cross_entropy(net(x), y)
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        ok += (net(x + 0.1 * x.grad.sign()).argmax(1) == y).sum().item()
print(ok)
print(loss.item())
