# expect: loss-shape-broadcast
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.SGD(net.parameters(), 1e-2)
for _i in range(80):
    x = torch.randn(32, 6)
    y = x.sum(1)
    err = y - net(x)
    loss = torch.abs(err).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
