"""Text in an EmbeddingBag; the scheduler steps only when the accuracy falls, which it never does."""

import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(0)
V = 200


def sample():
    y = torch.randint(0, 4, (1,)).item()
    n = torch.randint(5, 20, (1,)).item()
    words = torch.where(torch.rand(n) < 0.4, torch.randint(0, 25, (n,)) + 25 * y, torch.randint(100, V, (n,)))
    return y, words


data = [sample() for _ in range(600)]


def collate_batch(batch):
    labels, texts, offsets = [], [], [0]
    for y, w in batch:
        labels.append(y)
        texts.append(w)
        offsets.append(w.size(0))
    return torch.tensor(labels), torch.cat(texts), torch.tensor(offsets[:-1]).cumsum(0)


class TextClassificationModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(V, 32, sparse=False)
        self.fc = nn.Linear(32, 4)
        self.init_weights()

    def init_weights(self):
        self.embedding.weight.data.uniform_(-0.5, 0.5)
        self.fc.weight.data.uniform_(-0.5, 0.5)
        self.fc.bias.data.zero_()

    def forward(self, text, offsets):
        return self.fc(self.embedding(text, offsets))


model = TextClassificationModel()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=5)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1.0, gamma=0.1)
train_dl = DataLoader(data[:450], batch_size=16, shuffle=True, collate_fn=collate_batch)
valid_dl = DataLoader(data[450:], batch_size=16, shuffle=True, collate_fn=collate_batch)


def train(dl):
    model.train()
    for _idx, (label, text, offsets) in enumerate(dl):
        optimizer.zero_grad()
        loss = criterion(model(text, offsets), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()


def evaluate(dl):
    model.eval()
    acc = n = 0
    with torch.no_grad():
        for label, text, offsets in dl:
            p = model(text, offsets)
            criterion(p, label)
            acc += (p.argmax(1) == label).sum().item()
            n += label.size(0)
    return acc / n


total_accu = None
for epoch in range(1, 6):
    train(train_dl)
    accu_val = evaluate(valid_dl)
    if total_accu is not None and total_accu > accu_val:
        scheduler.step()
    else:
        total_accu = accu_val
    print(epoch, accu_val)
