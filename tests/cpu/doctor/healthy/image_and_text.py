"""Two encoders against each other: similarities with a learned temperature, labels 0 to N - 1."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class CLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual, self.text = (
            nn.Linear(16, 8),
            nn.Sequential(nn.Embedding(40, 16), nn.Flatten(), nn.Linear(64, 8)),
        )
        self.logit_scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))

    def forward(self, image, text):
        i, t = F.normalize(self.visual(image), dim=1), F.normalize(self.text(text), dim=1)
        s = self.logit_scale.exp()
        logits = s * i @ t.t()
        return logits, logits.t()


m = CLIP()
opt = torch.optim.Adam(m.parameters(), lr=3e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.001)
proj = torch.randn(40, 16)
for _step in range(150):
    text = torch.randint(0, 40, (32, 4))
    img = proj[text].sum(1) + 0.1 * torch.randn(32, 16)
    opt.zero_grad()
    li, lt = m(img, text)
    gt = torch.arange(32)
    loss = (F.cross_entropy(li, gt) + F.cross_entropy(lt, gt)) / 2
    loss.backward()
    opt.step()
    with torch.no_grad():
        m.logit_scale.clamp_(0, 4.6052)
print(loss.item())
