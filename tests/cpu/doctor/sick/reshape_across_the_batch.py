# expect: batch-mixing
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 16)
        self.b = nn.Linear(16, 2)

    def forward(self, x):
        x = x.transpose(0, 1).reshape(-1, 12)
        return self.b(torch.relu(self.a(x)))


net = Net()
opt = torch.optim.Adam(net.parameters(), 1e-2)
for _i in range(60):
    x = torch.randn(32, 12)
    y = (x[:, 0] > 0).long()
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
