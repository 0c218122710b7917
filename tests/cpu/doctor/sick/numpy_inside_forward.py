# expect: graph-cut
import numpy as np
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 16)
        self.b = nn.Linear(16, 1)

    def forward(self, x):
        h = self.a(x)
        h = torch.from_numpy(np.maximum(h.detach().numpy(), 0))
        return self.b(h)


net = Net()
opt = torch.optim.Adam(net.parameters(), 1e-3)
for _i in range(60):
    x = torch.randn(32, 8)
    loss = nn.functional.mse_loss(net(x), x.sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()
