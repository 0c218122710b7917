"""Sequence to sequence with attention, packed sequences, teacher forcing, two optimizers."""

import random

import torch
from torch import nn

random.seed(0)
torch.manual_seed(0)
PAD, SOS, EOS, V = 0, 1, 2, 14


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, 24, padding_idx=PAD)
        self.dropout = nn.Dropout(0.1)
        self.gru = nn.GRU(24, 32, batch_first=True)

    def forward(self, x, lengths):
        e = self.dropout(self.embedding(x))
        packed = nn.utils.rnn.pack_padded_sequence(e, lengths, batch_first=True, enforce_sorted=False)
        out, h = self.gru(packed)
        out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        return out, h


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, 24)
        self.query, self.key, self.score = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 1)
        self.gru = nn.GRU(56, 32, batch_first=True)
        self.out = nn.Linear(32, V)

    def step(self, token, h, memory):
        q = h.permute(1, 0, 2)
        scores = self.score(torch.tanh(self.query(q) + self.key(memory))).squeeze(2).unsqueeze(1)
        weights = torch.softmax(scores, dim=-1)
        context = torch.bmm(weights, memory)
        out, h = self.gru(torch.cat((self.embedding(token), context), 2), h)
        return self.out(out), h

    def forward(self, memory, h, length, target=None):
        token = torch.full((memory.size(0), 1), SOS)
        outs = []
        for i in range(length):
            o, h = self.step(token, h, memory)
            outs.append(o)
            token = target[:, i].unsqueeze(1) if target is not None else o.topk(1)[1].squeeze(-1).detach()
        return torch.cat(outs, 1)


def batch(n=32):
    L = [random.randint(3, 7) for _ in range(n)]
    src, tgt = torch.zeros(n, 8).long(), torch.zeros(n, 8).long()
    for r, n in enumerate(L):
        s = torch.randint(3, V, (n,))
        src[r, :n], tgt[r, :n], tgt[r, n] = s, s.flip(0), EOS
    return src, torch.tensor(L), tgt


enc, dec = Encoder(), Decoder()
eo, do = torch.optim.Adam(enc.parameters(), lr=3e-3), torch.optim.Adam(dec.parameters(), lr=3e-3)
criterion = nn.NLLLoss(ignore_index=PAD)
for it in range(150):
    enc.train(), dec.train()
    src, L, tgt = batch()
    eo.zero_grad()
    do.zero_grad()
    memory, h = enc(src, L)
    force = tgt if random.random() < 0.5 else None
    out = torch.log_softmax(dec(memory, h, 8, force), -1)
    loss = criterion(out.view(-1, V), tgt.view(-1))
    loss.backward()
    nn.utils.clip_grad_norm_([*enc.parameters(), *dec.parameters()], 1.0)
    eo.step()
    do.step()
    if it % 50 == 49:
        enc.eval(), dec.eval()
        with torch.no_grad():
            src, L, tgt = batch()
            m, h = enc(src, L)
            pred = dec(m, h, 8).argmax(-1)
            print(it, loss.item(), ((pred == tgt) | (tgt == PAD)).float().mean().item())
