# expect: checkpoint-not-loaded
import torch
from torch import nn

torch.manual_seed(0)


def mk():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))


ckpt = {"model." + k: v.clone() for k, v in mk().state_dict().items()}
net = mk()
own = net.state_dict()
own.update({k: v for k, v in ckpt.items() if k in own})
net.load_state_dict(own)
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for _i in range(30):
    x = torch.randn(32, 8)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
