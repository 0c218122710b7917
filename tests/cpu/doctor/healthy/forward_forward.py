"""Forward-forward: every layer has its own optimizer and goodness, gradients stop between layers."""

import torch
from torch import nn

torch.manual_seed(18)


class Layer(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)

    def forward(self, x):
        return torch.relu(super().forward(x / (x.norm(dim=1, keepdim=True) + 1e-4)))

    def learn(self, positive, negative):
        good, bad = self(positive).pow(2).mean(1), self(negative).pow(2).mean(1)
        loss = torch.log1p(torch.exp(torch.cat([1 - good, bad - 1]))).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return self(positive).detach(), self(negative).detach()


layers = [Layer(10, 32), Layer(32, 32)]
for _step in range(60):
    positive = torch.randn(64, 10).abs()
    negative = torch.randn(64, 10)
    for layer in layers:
        positive, negative = layer.learn(positive, negative)
print(positive.pow(2).mean().item(), negative.pow(2).mean().item())
