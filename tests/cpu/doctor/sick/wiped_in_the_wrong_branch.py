# expect: missing-zero-grad
import torch

torch.manual_seed(0)
net = torch.nn.Linear(6, 1)
opt = torch.optim.AdamW(net.parameters(), 1e-3)
for i in range(200):
    x = torch.randn(16, 6)
    if i % 50 == 0:
        opt.zero_grad()
    loss = torch.nn.functional.l1_loss(net(x), x.sum(1, keepdim=True))
    loss.backward()
    opt.step()
    if i % 50 == 0:
        print(i, loss.item())
