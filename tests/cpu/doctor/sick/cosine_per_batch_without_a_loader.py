# expect: scheduler-wrong-period
import torch
from torch import nn

torch.manual_seed(0)
X = torch.randn(320, 5)
Y = (X[:, 0] > 0).long()
net = nn.Linear(5, 2)
opt = torch.optim.SGD(net.parameters(), 0.1)
epochs = 10
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=epochs)
for ep in range(epochs):
    perm = torch.randperm(320)
    for i in range(0, 320, 16):
        x, y = X[perm[i : i + 16]], Y[perm[i : i + 16]]
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        sched.step()
    print(ep, loss.item())
