"""A classifier with dropout and batch norm, loaders, train and eval modes, a cosine schedule per epoch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
centres = torch.randn(4, 12) * 2
y = torch.randint(0, 4, (600,))
x = centres[y] + torch.randn(600, 12)
train = DataLoader(TensorDataset(x[:480], y[:480]), batch_size=32, shuffle=True)
valid = DataLoader(TensorDataset(x[480:], y[480:]), batch_size=60)
model = nn.Sequential(
    nn.Linear(12, 32),
    nn.BatchNorm1d(32),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(32, 32),
    nn.ReLU(),
    nn.Linear(32, 4),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
for epoch in range(6):
    model.train()
    running = 0.0
    for inputs, targets in train:
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        running += loss.item()
    scheduler.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for inputs, targets in valid:
            correct += (model(inputs).argmax(dim=1) == targets).sum().item()
    print(epoch, running / len(train), correct / 120)
