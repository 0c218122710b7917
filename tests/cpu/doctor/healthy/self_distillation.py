"""BYOL-like: an EMA teacher under no_grad, updated in place after every step."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(15)
student = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)
predictor = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
optimizer = torch.optim.SGD([*student.parameters(), *predictor.parameters()], lr=0.05, momentum=0.9)
for _step in range(80):
    x = torch.randn(64, 8)
    one, two = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
    with torch.no_grad():
        target = teacher(two)
    loss = 2 - 2 * F.cosine_similarity(predictor(student(one)), target).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for p, q in zip(student.parameters(), teacher.parameters(), strict=True):
            q.mul_(0.99).add_(p, alpha=0.01)
print(loss.item())
