"""One function trains and validates; the best state is restored."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(0)
X = torch.randn(500, 10)
Y = (X[:, :3].sum(1) > 0).float()
tr, va, te = random_split(TensorDataset(X, Y), [300, 100, 100])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))

    def forward(self, x):
        return self.l(x).squeeze(-1)


def run_epoch(model, dl, opt=None):
    model.train(opt is not None)
    tot = n = 0
    with torch.set_grad_enabled(opt is not None):
        for x, y in dl:
            out = model(x)
            loss = nn.functional.binary_cross_entropy_with_logits(out, y)
            if opt:
                opt.zero_grad()
                loss.backward()
                opt.step()
            tot += loss.item() * len(x)
            n += len(x)
    return tot / n


net = Net()
opt = torch.optim.Adam(net.parameters(), 3e-3)
sch = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=2)
best, keep, bad = 9, None, 0
for _ep in range(15):
    a = run_epoch(net, DataLoader(tr, 32, shuffle=True), opt)
    v = run_epoch(net, DataLoader(va, 50))
    sch.step(v)
    if v < best:
        best, keep, bad = v, copy.deepcopy(net.state_dict()), 0
    else:
        bad += 1
    if bad > 4:
        break
net.load_state_dict(keep)
print(best, run_epoch(net, DataLoader(te, 50)))
