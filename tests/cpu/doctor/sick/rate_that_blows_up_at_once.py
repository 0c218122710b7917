# expect: lr-too-high
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
opt = torch.optim.SGD(net.parameters(), 0.9, momentum=0.9)
for i in range(120):
    x = torch.randn(64, 8)
    loss = nn.functional.mse_loss(net(x), 3 * x.sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 40 == 0:
        print(loss.item())
