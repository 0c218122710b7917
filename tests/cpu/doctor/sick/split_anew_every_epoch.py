# expect: train-val-overlap
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(0)
ds = TensorDataset(torch.randn(300, 8), torch.randint(0, 2, (300,)))
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for _ep in range(6):
    tr, va = random_split(ds, [240, 60])
    for x, y in DataLoader(tr, 20, shuffle=True):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        print(sum((net(x).argmax(1) == y).sum().item() for x, y in DataLoader(va, 30)) / 60)
