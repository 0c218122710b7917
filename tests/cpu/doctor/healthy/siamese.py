"""A siamese network with a margin loss: the model is called twice per step."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(14)
net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 8))
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
centres = torch.randn(5, 6) * 2
for _step in range(120):
    a, b = torch.randint(0, 5, (32,)), torch.randint(0, 5, (32,))
    left = net(centres[a] + 0.3 * torch.randn(32, 6))
    right = net(centres[b] + 0.3 * torch.randn(32, 6))
    distance = F.pairwise_distance(left, right)
    same = (a == b).float()
    loss = (same * distance.pow(2) + (1 - same) * F.relu(2 - distance).pow(2)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
