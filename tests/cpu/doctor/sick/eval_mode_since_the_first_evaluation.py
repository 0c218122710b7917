# expect: eval-mode-while-training
import torch
from torch import nn

torch.manual_seed(0)
X = torch.randn(300, 8)
Y = (X[:, 0] > 0).long()
net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
opt = torch.optim.Adam(net.parameters(), 1e-3)


def test():
    net.eval()
    with torch.inference_mode():
        return nn.functional.cross_entropy(net(X[200:]), Y[200:]).item()


print("start", test())
for it in range(100):
    b = torch.randint(0, 200, (32,))
    loss = nn.functional.cross_entropy(net(X[b]), Y[b])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 20 == 0:
        print(it, test())
