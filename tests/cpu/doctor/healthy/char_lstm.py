"""A character language model: LSTM with a state that is carried over and detached."""

import torch
from torch import nn

torch.manual_seed(7)
text = "the way down is the way on and the way on is down " * 30
letters = sorted(set(text))
ids = torch.tensor([letters.index(c) for c in text])
steps, batch = 16, 8
data = ids[: len(ids) // batch * batch].view(batch, -1)


class CharLSTM(nn.Module):
    def __init__(self, vocabulary, width=32):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        self.lstm = nn.LSTM(16, width, num_layers=2, dropout=0.1, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, x, state=None):
        h, state = self.lstm(self.embed(x), state)
        return self.out(h), state


model = CharLSTM(len(letters))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(6):
    model.train()
    state, total = None, 0.0
    for start in range(0, data.shape[1] - steps - 1, steps):
        x, y = data[:, start : start + steps], data[:, start + 1 : start + steps + 1]
        if state is not None:
            state = tuple(s.detach() for s in state)
        scores, state = model(x, state)
        loss = nn.functional.cross_entropy(scores.reshape(-1, len(letters)), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    print(epoch, total)
model.eval()
with torch.no_grad():
    token, state, said = ids[:1].view(1, 1), None, []
    for _ in range(40):
        scores, state = model(token, state)
        token = torch.multinomial(scores[:, -1].softmax(-1), 1)
        said.append(letters[token.item()])
print("".join(said))
