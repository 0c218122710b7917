# expect: clip-before-unscale
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(5, 1)
opt = torch.optim.Adam(net.parameters(), 1e-2)
scaler = torch.amp.GradScaler("cpu", init_scale=4096)


def one(x):
    opt.zero_grad(set_to_none=True)
    loss = nn.functional.smooth_l1_loss(net(x), x.sum(1, keepdim=True))
    scaler.scale(loss).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.unscale_(opt)
    scaler.step(opt)
    scaler.update()
    return loss


for _i in range(60):
    last = one(torch.randn(32, 5))
print(last.item())
