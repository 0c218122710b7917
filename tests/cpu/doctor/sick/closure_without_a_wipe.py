# expect: missing-zero-grad
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(6, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _step in range(40):
    x = torch.randn(16, 6)
    y = (x[:, 0] > 0).long()

    def closure(x=x, y=y):
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
