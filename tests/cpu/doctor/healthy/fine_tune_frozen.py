"""Fine-tuning: a loaded body, frozen and with its norms in eval mode, and a new head."""

import torch
from torch import nn

torch.manual_seed(9)


def build(classes):
    body = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    return nn.ModuleDict({"body": body, "head": nn.Linear(16, classes)})


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.parts = build(classes)

    def forward(self, x):
        return self.parts["head"](self.parts["body"](x))

    def train(self, mode=True):
        super().train(mode)
        self.parts["body"].eval()
        return self


pretrained = Net(5)
state = {k: v.clone() for k, v in pretrained.state_dict().items() if "head" not in k}
model = Net(3)
model.load_state_dict(state, strict=False)
for p in model.parts["body"].parameters():
    p.requires_grad = False
optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1, momentum=0.9)
x = torch.randn(300, 10)
y = x[:, :3].argmax(1)
for epoch in range(5):
    model.train()
    for idx in torch.randperm(240).split(24):
        loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(epoch, (model(x[240:]).argmax(1) == y[240:]).float().mean().item())
