"""A student follows its own moving average."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
student = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 8))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)
opt = torch.optim.SGD(student.parameters(), 0.05)
for _it in range(100):
    x = torch.randn(32, 16)
    with torch.no_grad():
        t = F.softmax((teacher(x) - 0.0) / 0.04, -1)
    loss = -(t * F.log_softmax(student(x + 0.1 * torch.randn_like(x)) / 0.1, -1)).sum(-1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for a, b in zip(teacher.parameters(), student.parameters(), strict=False):
            a.lerp_(b, 0.01)
print(loss.item())
