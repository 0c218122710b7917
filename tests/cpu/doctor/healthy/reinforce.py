"""REINFORCE on a walk: log-probabilities are collected over an episode, then one backward."""

import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(3)
policy = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for _episode in range(60):
    position, log_probs, rewards = 0.0, [], []
    for _ in range(12):
        choice = Categorical(logits=policy(torch.tensor([position])))
        action = choice.sample()
        log_probs.append(choice.log_prob(action))
        position += 0.1 if action.item() == 1 else -0.1
        rewards.append(position)
    returns, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + 0.95 * total
        returns.insert(0, total)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + 1e-8)
    loss = -(torch.stack(log_probs) * returns).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(position)
