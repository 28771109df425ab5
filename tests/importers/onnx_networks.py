"""PyTorch encoder-decoder networks and their export to ONNX. Knows torch; never the importer."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SOURCE, TARGET, H, LENGTH = 11, 9, 5, 6
EXAMPLE = Path(__file__).parents[2] / "examples" / "g2p" / "model.py"


@dataclass(frozen=True)
class Graph:
    """A module with what its export needs. open: the axis of positions by input and output;
    batch: that of sentences where it is open too."""

    module: nn.Module
    arguments: tuple[Tensor, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    open: Mapping[str, int] = field(default_factory=dict)
    batch: Mapping[str, int] = field(default_factory=dict)

    def export(self, path: Path, dynamo: bool, **options: Any) -> Path:
        self.module.eval()
        names = {"input_names": list(self.inputs), "output_names": list(self.outputs)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                length = torch.export.Dim("S", min=2, max=4096)
                shapes = tuple(
                    {self.open[name]: length} if name in self.open else None for name in self.inputs
                )
                torch.onnx.export(
                    self.module, self.arguments, path, dynamo=True, verbose=False,
                    external_data=False, dynamic_shapes=shapes if self.open else None,
                    **names, **options,
                )  # fmt: skip
            else:
                axes: dict[str, dict[int, str]] = {}
                for name, axis in self.open.items():
                    axes[name] = {axis: "S"}
                for name, axis in self.batch.items():
                    axes.setdefault(name, {})[axis] = "batch"
                torch.onnx.export(
                    self.module, self.arguments, path, dynamo=False, dynamic_axes=axes,
                    **names, **options,
                )  # fmt: skip
        return path


def ids(*shape: int) -> Tensor:
    return torch.randint(3, 9, shape)


def seeded(module: type[nn.Module], *arguments: Any, **named: Any) -> nn.Module:
    torch.manual_seed(1)
    return module(*arguments, **named)


# --- the shipped example ---


def _example() -> Any:
    found = importlib.util.spec_from_file_location("g2p_example_model", EXAMPLE)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["g2p_example_model"] = module
    found.loader.exec_module(module)
    return module


class ExampleEncoder(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        state = self.net.encode(source)
        return state.memory, state.keys, *state.first, *state.second


class ExampleStep(nn.Module):
    def __init__(self, net: Any, state: type) -> None:
        super().__init__()
        self.net, self.state = net, state

    def forward(
        self, previous: Tensor, memory: Tensor, keys: Tensor, h1: Tensor, c1: Tensor, h2: Tensor,
        c2: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        state = self.state(memory, keys, (h1, c1), (h2, c2))
        logits, after = self.net.decode(state, previous.unsqueeze(1))
        return logits[:, 0], *after.first, *after.second


def example() -> tuple[Graph, Graph]:
    shipped = _example()
    net = seeded(shipped.G2P, shipped.Config(SOURCE, TARGET, 6, 4, 2, 8))
    names = ["h1", "c1", "h2", "c2"]
    encoder = Graph(
        ExampleEncoder(net), (ids(1, LENGTH),), ["source"], ["memory", "keys", *names],
        {"source": 1, "memory": 1, "keys": 1},
    )  # fmt: skip
    sides = [torch.randn(1, LENGTH, 8) for _ in range(2)]
    step = Graph(
        ExampleStep(net, shipped.State),
        (ids(1), *sides, *(torch.randn(1, 1, 8) for _ in names)),
        ["previous", "memory", "keys", *names],
        ["logits", *(f"{name}_next" for name in names)],
        {"memory": 1, "keys": 1},
    )
    return encoder, step


# --- the tutorials: a GRU reads, a GRU writes ---


class Reader(nn.Module):
    def __init__(self, first: bool = True) -> None:
        super().__init__()
        self.table, self.drop = nn.Embedding(SOURCE, H), nn.Dropout(0.1)
        self.gru = nn.GRU(H, H, batch_first=first)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(self.drop(self.table(source)))


class PlainWriter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(TARGET, H), nn.Linear(H, TARGET)
        self.gru = nn.GRU(H, H, batch_first=True)

    def forward(self, token: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        top, hidden = self.gru(torch.relu(self.table(token)), hidden)
        return self.out(top), hidden


class AdditiveWriter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(TARGET, H), nn.Linear(H, TARGET)
        self.of_state, self.of_memory, self.v = nn.Linear(H, H), nn.Linear(H, H), nn.Linear(H, 1)
        self.gru = nn.GRU(2 * H, H, batch_first=True)

    def forward(self, token: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        query = hidden.permute(1, 0, 2)
        energies = self.v(torch.tanh(self.of_state(query) + self.of_memory(memory)))
        weights = torch.softmax(energies.squeeze(2).unsqueeze(1), dim=-1)
        context = torch.bmm(weights, memory)
        top, hidden = self.gru(torch.cat((self.table(token), context), dim=2), hidden)
        return self.out(top), hidden, weights


class SlotWriter(nn.Module):
    """Weights over a fixed number of slots, from the token and the state alone."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(TARGET, H), nn.Linear(H, TARGET)
        self.slots, self.combine = nn.Linear(2 * H, slots), nn.Linear(2 * H, H)
        self.gru = nn.GRU(H, H)

    def forward(self, token: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        y = self.table(token).view(1, 1, -1)
        weights = torch.softmax(self.slots(torch.cat((y[0], hidden[0]), 1)), dim=1)
        context = torch.bmm(weights.unsqueeze(0), memory.unsqueeze(0))
        x = torch.relu(self.combine(torch.cat((y[0], context[0]), 1)).unsqueeze(0))
        top, hidden = self.gru(x, hidden)
        return torch.log_softmax(self.out(top[0]), dim=1), hidden, weights


def reader(first: bool = True) -> Graph:
    axis = 1 if first else 0
    source = ids(1, LENGTH) if first else ids(LENGTH, 1)
    names = ["memory", "hidden"]
    return Graph(
        seeded(Reader, first), (source,), ["source"], names, {"source": axis, "memory": axis}
    )


def plain() -> tuple[Graph, Graph]:
    step = Graph(
        seeded(PlainWriter), (ids(1, 1), torch.randn(1, 1, H)), ["token", "hidden"],
        ["logits", "hidden_out"],
    )  # fmt: skip
    return reader(), step


def additive() -> tuple[Graph, Graph]:
    step = Graph(
        seeded(AdditiveWriter),
        (ids(1, 1), torch.randn(1, 1, H), torch.randn(1, LENGTH, H)),
        ["token", "hidden", "memory"], ["logits", "hidden_out", "weights"], {"memory": 1},
    )  # fmt: skip
    return reader(), step


def slots(count: int = 7) -> tuple[Graph, Graph]:
    step = Graph(
        seeded(SlotWriter, count), (ids(1, 1), torch.randn(1, 1, H), torch.randn(count, H)),
        ["token", "hidden", "memory"], ["log_probs", "hidden_out", "weights"],
    )  # fmt: skip
    return reader(False), step


class FeatureReader(nn.Module):
    """Reads features in place of ids."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, H, batch_first=True)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(frames)


def features() -> tuple[Graph, Graph]:
    encoder = Graph(
        seeded(FeatureReader), (torch.randn(1, LENGTH, 3),), ["frames"], ["memory", "hidden"],
        {"frames": 1, "memory": 1},
    )  # fmt: skip
    return encoder, additive()[1]


# --- what others write ---


class LuongWriter(nn.Module):
    """Time first; scores by a product and a sum, the top of two layers asks."""

    def __init__(self, general: bool) -> None:
        super().__init__()
        self.table, self.gru = nn.Embedding(TARGET, H), nn.GRU(H, H, num_layers=2)
        self.general = nn.Linear(H, H, bias=False) if general else None
        self.combine, self.out = nn.Linear(2 * H, H), nn.Linear(H, TARGET)

    def forward(self, token: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        top, hidden = self.gru(self.table(token), hidden)
        keys = memory if self.general is None else self.general(memory)
        weights = torch.softmax(torch.sum(top * keys, dim=2).t(), dim=1).unsqueeze(1)
        context = weights.bmm(memory.transpose(0, 1)).squeeze(1)
        joined = torch.tanh(self.combine(torch.cat((top.squeeze(0), context), 1)))
        return torch.softmax(self.out(joined), dim=1), hidden


class TwoLayers(nn.Module):
    """A bidirectional GRU of two layers whose directions are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(SOURCE, H)
        self.gru = nn.GRU(H, H, num_layers=2, bidirectional=True)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        top, hidden = self.gru(self.table(source))
        return top[:, :, :H] + top[:, :, H:], hidden[:2]


def luong(general: bool) -> tuple[Graph, Graph]:
    encoder = Graph(
        seeded(TwoLayers), (ids(LENGTH, 1),), ["input_seq"], ["encoder_outputs", "hidden"],
        {"input_seq": 0, "encoder_outputs": 0},
    )  # fmt: skip
    step = Graph(
        seeded(LuongWriter, general),
        (ids(1, 1), torch.randn(2, 1, H), torch.randn(LENGTH, 1, H)),
        ["input_step", "last_hidden", "encoder_outputs"], ["output", "hidden"],
        {"encoder_outputs": 0},
    )  # fmt: skip
    return encoder, step


class ConcatWriter(nn.Module):
    """The state repeated at every position, one product over [state; memory], LSTM cells."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TARGET, 4)
        self.attn, self.v = nn.Linear(3 * H, H), nn.Linear(H, 1, bias=False)
        self.cell = nn.LSTMCell(4 + 2 * H, H)
        self.out = nn.Linear(3 * H + 4, TARGET)

    def forward(self, token: Tensor, h: Tensor, c: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        repeated = h.unsqueeze(1).repeat(1, memory.shape[0], 1)
        by_sentence = memory.permute(1, 0, 2)
        energy = torch.tanh(self.attn(torch.cat((repeated, by_sentence), dim=2)))
        weights = torch.softmax(self.v(energy).squeeze(2), dim=1)
        context = torch.bmm(weights.unsqueeze(1), by_sentence).squeeze(1)
        y = self.table(token)
        h, c = self.cell(torch.cat((y, context), dim=1), (h, c))
        return self.out(torch.cat((h, context, y), dim=1)), h, c, weights


class BothWays(nn.Module):
    """Time first; a bridge from the last states of both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm = nn.Embedding(SOURCE, 4), nn.LSTM(4, H, bidirectional=True)
        self.bridge = nn.Linear(2 * H, H)

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        memory, (h, c) = self.lstm(self.table(source))
        states = [torch.tanh(self.bridge(torch.cat((s[-2], s[-1]), dim=1))) for s in (h, c)]
        return memory, *states


def concat() -> tuple[Graph, Graph]:
    encoder = Graph(
        seeded(BothWays), (ids(LENGTH, 1),), ["src"], ["memory", "h_n", "c_n"],
        {"src": 0, "memory": 0},
    )  # fmt: skip
    step = Graph(
        seeded(ConcatWriter),
        (ids(1), torch.randn(1, H), torch.randn(1, H), torch.randn(LENGTH, 1, 2 * H)),
        ["token", "h", "c", "memory"], ["logits", "h_out", "c_out", "weights"], {"memory": 0},
    )  # fmt: skip
    return encoder, step


class CellWriter(nn.Module):
    """A GRU cell without attention, and layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(TARGET, H), nn.GRUCell(H, H)
        self.norm, self.out = nn.LayerNorm(H), nn.Linear(H, TARGET, bias=False)

    def forward(self, token: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        after = self.cell(self.table(token), hidden[0])
        return self.out(self.norm(after)), after.unsqueeze(0)


def cell() -> tuple[Graph, Graph]:
    step = Graph(
        seeded(CellWriter), (ids(1), torch.randn(1, 1, H)), ["token", "hidden"],
        ["logits", "hidden_out"],
    )  # fmt: skip
    return reader(), step


class Tagger(nn.Module):
    def __init__(self, kind: type[nn.Module] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(SOURCE, 4)
        self.layers = kind(4, H, bidirectional=True, batch_first=True, **options)
        self.out = nn.Linear(2 * H, TARGET)

    def forward(self, source: Tensor) -> Tensor:
        return self.out(self.layers(self.table(source))[0])


def tagger(kind: type[nn.Module] = nn.LSTM, **options: Any) -> Graph:
    return Graph(
        seeded(Tagger, kind, **options), (ids(1, LENGTH),), ["source"], ["logits"],
        {"source": 1, "logits": 1},
    )  # fmt: skip


class PackedTagger(Tagger):
    def forward(self, source: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.table(source), lengths, batch_first=True)
        top, _ = nn.utils.rnn.pad_packed_sequence(self.layers(packed)[0], batch_first=True)
        return self.out(top)


def packed() -> Graph:
    return Graph(
        seeded(PackedTagger), (ids(1, LENGTH), torch.tensor([LENGTH])), ["source", "lengths"],
        ["logits"], {"source": 1, "logits": 1},
    )  # fmt: skip
