"""The grapheme-to-phoneme network: a bidirectional LSTM encoder and an attention decoder.
Attention is queried by the first decoder LSTM, so training needs no loop over target steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    """The sizes of the network and the dropout used in training."""

    source_symbols: int
    target_symbols: int
    embedding: int = 96
    encoder: int = 176
    encoder_layers: int = 2
    decoder: int = 256
    dropout: float = 0.3


@dataclass(frozen=True)
class State:
    """What a decoder carries from step to step, for B sentences of K hypotheses each.

    memory and keys are [B, S, .]; the LSTM states are [1, B * K, decoder]."""

    memory: Tensor
    keys: Tensor
    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]


class G2P(nn.Module):
    """Maps letters to phoneme logits; all sources of one batch have the same length."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        both, decoder = 2 * config.encoder, config.decoder
        self.source_embedding = nn.Embedding(config.source_symbols, config.embedding)
        self.target_embedding = nn.Embedding(config.target_symbols, config.embedding)
        self.encoder = nn.LSTM(
            config.embedding,
            config.encoder,
            num_layers=config.encoder_layers,
            dropout=config.dropout,
            bidirectional=True,
            batch_first=True,
        )
        self.keys = nn.Linear(both, decoder, bias=False)
        self.bridge_h = nn.Linear(both, decoder)
        self.bridge_c = nn.Linear(both, decoder)
        self.decoder1 = nn.LSTM(config.embedding, decoder, batch_first=True)
        self.decoder2 = nn.LSTM(decoder + both, decoder, batch_first=True)
        self.readout = nn.Linear(decoder + both, decoder)
        self.output = nn.Linear(decoder, config.target_symbols)
        self.drop = nn.Dropout(config.dropout)
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=0.3)

    def encode(self, source: Tensor) -> State:
        """Runs the encoder over [B, S] ids and prepares the decoder's first state."""
        memory, (hidden, _) = self.encoder(self.drop(self.source_embedding(source)))
        final = self.drop(torch.cat((hidden[-2], hidden[-1]), dim=-1))
        first = (
            torch.tanh(self.bridge_h(final)).unsqueeze(0),
            torch.tanh(self.bridge_c(final)).unsqueeze(0),
        )
        memory = self.drop(memory)
        zero = torch.zeros_like(first[0])
        return State(memory, self.keys(memory), first, (zero, zero))

    def decode(self, state: State, previous: Tensor) -> tuple[Tensor, State]:
        """Gives the logits [B * K, T, V] that follow the given [B * K, T] target ids."""
        return self.steps(state, previous)[:2]

    def steps(self, state: State, previous: Tensor) -> tuple[Tensor, State, Tensor]:
        """Gives the same, and the first decoder's states [B * K, T, decoder]."""
        sentences, rows = state.memory.shape[0], previous.shape[0]
        h1, first = self.decoder1(self.drop(self.target_embedding(previous)), state.first)
        query = h1.reshape(sentences, -1, self.config.decoder)
        weights = torch.softmax(query @ state.keys.transpose(1, 2), dim=-1)
        context = (weights @ state.memory).reshape(rows, previous.shape[1], -1)
        h2, second = self.decoder2(self.drop(torch.cat((h1, context), dim=-1)), state.second)
        joined = self.drop(torch.cat((h2, context), dim=-1))
        logits: Tensor = self.output(self.drop(torch.tanh(self.readout(joined))))
        return logits, State(state.memory, state.keys, first, second), h1

    def forward(self, source: Tensor, previous: Tensor) -> Tensor:
        """Gives training logits [B, T, V] under teacher forcing."""
        return self.decode(self.encode(source), previous)[0]

    def with_sensitivity(self, source: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the logits, and how far rounding before the attention reaches its scores.

        A score is h1' W m: its squared gradient is |W' h1|^2 by the memory m and |W m|^2 by the
        state h1. The second result is the sum of their means over all positions and steps, the
        steps of padding behind a shorter target too."""
        state = self.encode(source)
        logits, _, h1 = self.steps(state, previous)
        by_memory = (h1 @ self.keys.weight).float().square().sum(dim=-1)
        by_state = state.keys.float().square().sum(dim=-1)
        return logits, by_memory.mean() + by_state.mean()

    def log_probabilities(self, state: State, previous: Tensor) -> tuple[Tensor, State]:
        """Makes one decoding step from [B * K] ids to float32 log-probabilities [B * K, V]."""
        logits, state = self.decode(state, previous.unsqueeze(1))
        return functional.log_softmax(logits[:, 0].float(), dim=-1), state
