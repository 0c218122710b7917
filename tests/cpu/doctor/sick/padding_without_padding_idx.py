# expect: padding-in-loss
import torch
from torch import nn

torch.manual_seed(0)
V, PAD = 20, 0


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(V, 16)
        self.r = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
        self.o = nn.Linear(32, 5)

    def forward(self, t):
        return self.o(self.r(self.e(t))[0])


net = Tagger()
opt = torch.optim.Adam(net.parameters(), 1e-2)
crit = nn.CrossEntropyLoss()
for _i in range(60):
    t = torch.randint(1, V, (16, 12))
    y = t % 4 + 1
    for r, n in enumerate(torch.randint(3, 10, (16,))):
        t[r, n:] = PAD
        y[r, n:] = 0
    loss = crit(net(t).reshape(-1, 5), y.reshape(-1))
    opt.zero_grad()
    loss.backward()
    opt.step()
