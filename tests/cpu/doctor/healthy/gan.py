"""A GAN with two players, batch norm in the generator, and one loss per player."""

import torch
from torch import nn

torch.manual_seed(1)
generator = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(32, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
criterion = nn.BCEWithLogitsLoss()
real_label, fake_label = torch.ones(64, 1), torch.zeros(64, 1)
for step in range(150):
    real = torch.randn(64, 2) * 0.5 + 2
    with torch.no_grad():
        fake = generator(torch.randn(64, 8))
    opt_d.zero_grad()
    loss_real = criterion(critic(real), real_label)
    loss_real.backward()
    loss_fake = criterion(critic(fake), fake_label)
    loss_fake.backward()
    opt_d.step()
    opt_g.zero_grad()
    fake = generator(torch.randn(64, 8))
    loss_g = criterion(critic(fake), real_label)
    loss_g.backward()
    opt_g.step()
    if step % 50 == 0:
        print(step, (loss_real + loss_fake).item(), loss_g.item())
