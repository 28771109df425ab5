"""A network of one's own in PyTorch: it learns to write words backwards. Trains for some seconds,
and saves a checkpoint as people do: `python network.py reverser.pt [STEPS]`."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

LETTERS = ["<pad>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
START, END, SIZE = 1, 2, 48


class Reverser(nn.Module):
    """A bidirectional GRU reads; an LSTM cell with additive attention over it writes."""

    def __init__(self, letters: int = len(LETTERS), size: int = SIZE) -> None:
        super().__init__()
        self.table = nn.Embedding(letters, size)
        self.encoder = nn.GRU(size, size, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(2 * size, size)
        self.keys = nn.Linear(2 * size, size)
        self.query = nn.Linear(size, size, bias=False)
        self.energy = nn.Linear(size, 1, bias=False)
        self.decoder = nn.LSTMCell(size + 2 * size, size)
        self.out = nn.Linear(3 * size, letters)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (batch, T, letters) for source ids (batch, S) and the ids that are fed (batch,
        T)."""
        memory, last = self.encoder(self.table(source))
        h = torch.tanh(self.bridge(torch.cat([last[0], last[1]], 1)))
        c, keys, logits = torch.zeros_like(h), self.keys(memory), []
        for token in target.T:
            energies = self.energy(torch.tanh(keys + self.query(h)[:, None]))[..., 0]
            context = (torch.softmax(energies, 1)[:, None] @ memory)[:, 0]
            h, c = self.decoder(torch.cat([self.table(token), context], 1), (h, c))
            logits.append(self.out(torch.cat([h, context], 1)))
        return torch.stack(logits, 1)


def train(network: Reverser, steps: int) -> None:
    """Random words of one length per step, and the same words backwards."""
    adam = torch.optim.Adam(network.parameters(), lr=4e-3)
    for step in range(steps):
        length = int(torch.randint(2, 9, ()))
        words = torch.randint(END + 1, len(LETTERS), (64, length))
        start, end = torch.full((64, 1), START), torch.full((64, 1), END)
        logits = network(words, torch.cat([start, words.flip(1)], 1))
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.cat([words.flip(1), end], 1).flatten()
        )
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr)


if __name__ == "__main__":
    torch.manual_seed(0)
    reverser = Reverser()
    train(reverser, int(sys.argv[2]) if len(sys.argv) > 2 else 400)
    torch.save(reverser.state_dict(), sys.argv[1])
