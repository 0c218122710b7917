"""A compiled model."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
cnet = torch.compile(net, backend="eager")
opt = torch.optim.SGD(cnet.parameters(), 0.05, momentum=0.9)
for _it in range(120):
    x = torch.randn(64, 16)
    y = x[:, :4].argmax(1)
    loss = nn.functional.cross_entropy(cnet(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
