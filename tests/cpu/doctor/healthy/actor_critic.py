"""Actor-critic with a shared trunk, an entropy bonus and rollouts without gradients."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(4)


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 32), nn.Tanh())
        self.actor = nn.Linear(32, 2)
        self.critic = nn.Linear(32, 1)

    def forward(self, state):
        hidden = self.trunk(state)
        return torch.distributions.Categorical(logits=self.actor(hidden)), self.critic(hidden).squeeze(-1)


net = ActorCritic()
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
for _update in range(60):
    with torch.no_grad():
        states = torch.randn(32, 3)
        actions = net(states)[0].sample()
        returns = torch.where(actions == (states[:, 0] > 0).long(), 1.0, -1.0)
    choice, value = net(states)
    advantage = returns - value.detach()
    actor_loss = -(choice.log_prob(actions) * advantage).mean()
    critic_loss = F.smooth_l1_loss(value, returns)
    loss = actor_loss + 0.5 * critic_loss - 0.01 * choice.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    optimizer.step()
print(returns.mean().item())
