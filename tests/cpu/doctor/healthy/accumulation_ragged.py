"""Gradient accumulation with a token-weighted sum, padding ignored, and a last incomplete group."""

import torch
from torch import nn

torch.manual_seed(13)
model = nn.Sequential(nn.Embedding(20, 16, padding_idx=0), nn.Linear(16, 20))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
optimizer.zero_grad()
for _group in range(30):
    micro = []
    for _ in range(3):
        ids = torch.randint(1, 20, (8, 10))
        ids[torch.arange(10) >= torch.randint(4, 11, (8, 1))] = 0
        micro.append(ids)
    tokens = sum(int((ids != 0).sum()) for ids in micro)
    for ids in micro:
        loss = nn.functional.cross_entropy(
            model(ids).flatten(0, 1), ids.flatten(), ignore_index=0, reduction="sum"
        )
        (loss / tokens).backward()
    optimizer.step()
    optimizer.zero_grad()
print(loss.item())
