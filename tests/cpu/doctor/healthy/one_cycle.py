"""OneCycleLR stepped per batch, a CNN on small images, and accuracy of the training batches."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
y = torch.randint(0, 3, (480,))
x = torch.randn(480, 1, 8, 8) * 0.5
x[torch.arange(480), 0, y * 2, :] += 1.5
train = DataLoader(TensorDataset(x[:400], y[:400]), batch_size=40, shuffle=True, drop_last=True)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(16, 3),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, epochs=5, steps_per_epoch=len(train))
for epoch in range(5):
    model.train()
    hits = 0
    for a, b in train:
        out = model(a)
        loss = nn.functional.cross_entropy(out, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        hits += (out.argmax(1) == b).sum().item()
    model.eval()
    with torch.no_grad():
        score = (model(x[400:]).argmax(1) == y[400:]).float().mean().item()
    print(epoch, hits / 400, score)
