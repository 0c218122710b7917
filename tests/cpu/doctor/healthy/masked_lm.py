"""Masked language model on sequences drawn anew for every batch, from a small space."""

import torch
from torch import nn

torch.manual_seed(0)
V, MASK, L = 24, 1, 12


class Bert(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, d, padding_idx=0), nn.Embedding(L, d)
        layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d, V)

    def forward(self, input_ids, attention_mask=None, labels=None):
        h = self.tok(input_ids) + self.pos(torch.arange(input_ids.size(1)))
        pad = None if attention_mask is None else attention_mask == 0
        logits = self.head(self.enc(h, src_key_padding_mask=pad))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.view(-1, V), labels.view(-1), ignore_index=-100)
        return {"loss": loss, "logits": logits}


def batch(n=32):
    start = torch.randint(2, V, (n, 1))
    ids = (start + torch.arange(L) * torch.randint(1, 3, (n, 1))) % (V - 2) + 2
    length = torch.randint(6, L + 1, (n,))
    mask = (torch.arange(L)[None] < length[:, None]).long()
    ids = ids * mask
    pick = (torch.rand(n, L) < 0.2) & (mask == 1)
    labels = torch.where(pick, ids, -100)
    return {"input_ids": torch.where(pick, MASK, ids), "attention_mask": mask, "labels": labels}


model = Bert()
decay = [p for n, p in model.named_parameters() if p.dim() > 1]
other = [p for n, p in model.named_parameters() if p.dim() <= 1]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 0.01}, {"params": other, "weight_decay": 0.0}], lr=2e-3
)
for step in range(120):
    model.train()
    out = model(**batch())
    out["loss"].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if step % 40 == 39:
        model.eval()
        with torch.no_grad():
            b = batch()
            o = model(**b)
            keep = b["labels"] != -100
            print(
                step,
                o["loss"].item(),
                (o["logits"].argmax(-1)[keep] == b["labels"][keep]).float().mean().item(),
            )
