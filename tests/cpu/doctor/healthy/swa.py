"""Stochastic weight averaging with update_bn at the end."""

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(12)
x = torch.randn(320, 6)
y = (x[:, 0] * x[:, 1] + x[:, 2]).unsqueeze(1)
loader = DataLoader(TensorDataset(x[:256], y[:256]), batch_size=32, shuffle=True)
net = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))
averaged = AveragedModel(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
swa_scheduler = SWALR(optimizer, swa_lr=0.02, anneal_epochs=2)
for epoch in range(10):
    net.train()
    for a, b in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(net(a), b).backward()
        optimizer.step()
    if epoch >= 6:
        averaged.update_parameters(net)
        swa_scheduler.step()
    else:
        scheduler.step()
update_bn(loader, averaged)
averaged.eval()
with torch.no_grad():
    print(nn.functional.mse_loss(averaged(x[256:]), y[256:]).item())
