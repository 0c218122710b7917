"""LBFGS with a closure on a full batch."""

import torch
from torch import nn

torch.manual_seed(5)
x = torch.linspace(-2, 2, 80).unsqueeze(1)
y = torch.sin(2 * x)
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=10)
for _step in range(12):

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
print(loss.item())
