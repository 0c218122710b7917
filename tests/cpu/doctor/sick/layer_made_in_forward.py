# expect: params-not-in-optimizer
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 20)
        self.proj = None

    def forward(self, x):
        h = torch.relu(self.fc(x))
        if self.proj is None:
            self.proj = nn.Linear(h.shape[1], 1)
        return self.proj(h)


net = Net()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for _i in range(100):
    x = torch.randn(32, 6)
    loss = nn.functional.mse_loss(net(x), x.sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
