"""A variational autoencoder with a summed loss and samples drawn without gradients."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(6)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(20, 32)
        self.mean, self.log_variance = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 20))

    def forward(self, x):
        hidden = F.relu(self.encoder(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return torch.sigmoid(self.decoder(z)), mean, log_variance


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
pattern = (torch.rand(5, 20) > 0.5).float()
data = (pattern[torch.randint(0, 5, (400,))] - 0.05).abs()
for _epoch in range(6):
    model.train()
    for batch in data[torch.randperm(400)].split(40):
        output, mean, log_variance = model(batch)
        reconstruction = F.binary_cross_entropy(output, batch, reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss = reconstruction + divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        sample = torch.sigmoid(model.decoder(torch.randn(16, 4)))
print(loss.item() / 40, sample.mean().item())
