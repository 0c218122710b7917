"""Regression with ReduceLROnPlateau, early stopping and the best state restored."""

import copy

import torch
from torch import nn

torch.manual_seed(17)
x = torch.randn(260, 5)
y = x[:, :1] ** 2 + 0.3 * torch.randn(260, 1)
net = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
best, best_state, waited = float("inf"), None, 0
for _epoch in range(25):
    net.train()
    for idx in torch.randperm(200).split(20):
        optimizer.zero_grad()
        loss = nn.functional.huber_loss(net(x[idx]), y[idx])
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        valid = nn.functional.huber_loss(net(x[200:]), y[200:]).item()
    scheduler.step(valid)
    if valid < best:
        best, best_state, waited = valid, copy.deepcopy(net.state_dict()), 0
    else:
        waited += 1
        if waited > 5:
            break
net.load_state_dict(best_state)
print(best)
