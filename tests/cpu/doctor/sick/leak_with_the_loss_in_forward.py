# expect: future-leak
import torch
from torch import nn

torch.manual_seed(0)


class GPT(nn.Module):
    def __init__(self, V=16, d=32):
        super().__init__()
        self.e = nn.Embedding(V, d)
        self.q = nn.Linear(d, 3 * d)
        self.o = nn.Linear(d, V)

    def forward(self, idx, targets=None):
        x = self.e(idx)
        q, k, v = self.q(x).chunk(3, -1)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v)
        logits = self.o(x)
        loss = None if targets is None else nn.functional.cross_entropy(logits.view(-1, 16), targets.view(-1))
        return logits, loss


net = GPT()
opt = torch.optim.AdamW(net.parameters(), 1e-3)
data = torch.randint(0, 16, (2000,)).cumsum(0) % 16
for _i in range(60):
    ix = torch.randint(0, 1900, (16,))
    x = torch.stack([data[j : j + 12] for j in ix])
    y = torch.stack([data[j + 1 : j + 13] for j in ix])
    _, loss = net(x, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
