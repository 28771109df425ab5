"""PyTorch: the graphs as Python source over `torch.nn` modules, as a user would write them by hand,
eager, compiled, or with int8 weights quantised dynamically; beams by `topk`, states by index."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...graph import Graph, Node
from ..workloads import Workload
from .wiring import ACTIVATIONS, Array, Decode, Peer, Unsupported, Wiring, check_cell, references

Modules = nn.ModuleDict


class Source:
    """One graph as the body of a Python function: `values` maps references to expressions."""

    def __init__(self, wiring: Wiring, graph: Graph, modules: Modules, prefix: str) -> None:
        self.wiring, self.graph, self.modules = wiring, graph, modules
        self._prefix = prefix
        self.values: dict[str, str] = {}
        self.lines: list[str] = []
        self._layers = wiring.layers() if prefix == "e" else {}

    def write(self) -> None:
        for node in self.graph.nodes:
            writer = getattr(self, f"_{node.op}", None)
            if writer is None:
                raise Unsupported(f"the operation {node.op} is not written for PyTorch")
            writer(node)

    def _line(self, node: Node, expression: str, *outputs: str) -> list[str]:
        names = [f"{self._prefix}_{node.name}{'_' if out else ''}{out}" for out in outputs or ("",)]
        self.lines.append(f"{', '.join(names)} = {expression}")
        return names

    def _add(self, node: Node, module: nn.Module) -> str:
        name = f"{self._prefix}_{node.name}"
        self.modules[name] = module.eval()
        return f"m[{name!r}]"

    def _joined(self, node: Node) -> str:
        parts = [self.values[reference] for reference in references(node, "x")]
        return parts[0] if len(parts) == 1 else f"torch.cat(({', '.join(parts)}), -1)"

    def _embedding(self, node: Node) -> None:
        weight = self.wiring.array(node, "weight") * np.float32(node.attributes["scale"])
        module = nn.Embedding(*weight.shape)
        _fill(module.weight, weight)
        (x,) = references(node, "x")
        (self.values[node.name],) = self._line(node, f"{self._add(node, module)}({self.values[x]})")

    def _linear(self, node: Node) -> None:
        weight, activation = self.wiring.array(node, "weight"), str(node.attributes["activation"])
        if activation not in ACTIVATIONS:
            raise Unsupported(f"the activation {activation}")
        module = nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in node.weights)
        _fill(module.weight, weight)
        if "bias" in node.weights:
            _fill(module.bias, self.wiring.array(node, "bias"))
        call = f"{self._add(node, module)}({self._joined(node)})"
        if activation != "identity":
            call = f"torch.{activation}({call})"
        (self.values[node.name],) = self._line(node, call)

    def _concat(self, node: Node) -> None:
        parts = [self.values[reference] for reference in references(node, "x")]
        whole = parts[0].partition("[..., :")[0]
        if len(parts) == 2 and all(part.startswith(f"{whole}[...") for part in parts):
            self.values[node.name] = whole  # both directions of a layer, which lie side by side
        else:
            (self.values[node.name],) = self._line(node, self._joined(node))

    def _recurrent(self, node: Node, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        nodes = self._layers.get(node.name)
        if nodes is None:
            return  # the backward half of a layer
        inputs, hidden = self._sizes(node)
        module = kind(inputs, hidden, bidirectional=len(nodes) == 2)
        for one, suffix in zip(nodes, ("_l0", "_l0_reverse"), strict=False):
            self._fill_cell(module, one, suffix)
        call = f"{self._add(node, module)}({self._joined(node)})"
        lstm = kind is nn.LSTM
        y, *last = self._line(node, call, "y", "last") if not lstm else self._lstm_line(node, call)
        for number, one in enumerate(nodes):
            part = f"[..., {hidden}:]" if number else f"[..., :{hidden}]"
            self.values[f"{one.name}.sequence"] = y + part if len(nodes) == 2 else y
            for name, value in zip("hc", last, strict=False):
                self.values[f"{one.name}.{name}"] = f"{value}[{number}]"

    def _lstm_line(self, node: Node, call: str) -> list[str]:
        names = [f"{self._prefix}_{node.name}_{part}" for part in "yhc"]
        self.lines.append(f"{names[0]}, ({names[1]}, {names[2]}) = {call}")
        return names

    def _lstm(self, node: Node) -> None:
        self._recurrent(node, nn.LSTM)

    def _gru(self, node: Node) -> None:
        self._recurrent(node, nn.GRU)

    def _lstm_cell(self, node: Node) -> None:
        module = nn.LSTMCell(*self._sizes(node))
        self._fill_cell(module, node, "")
        h, c = (self.values[references(node, role)[0]] for role in "hc")
        call = f"{self._add(node, module)}({self._joined(node)}, ({h}, {c}))"
        names = self._line(node, call, "h", "c")
        self.values[f"{node.name}.h"], self.values[f"{node.name}.c"] = names

    def _gru_cell(self, node: Node) -> None:
        module = nn.GRUCell(*self._sizes(node))
        self._fill_cell(module, node, "")
        h = self.values[references(node, "h")[0]]
        call = f"{self._add(node, module)}({self._joined(node)}, {h})"
        (self.values[node.name],) = self._line(node, call)

    def _attention(self, node: Node) -> None:
        query = self.values[references(node, "query")[0]]
        size = self.wiring.types["decoder"][references(node, "query")[0]].size
        keys = references(node, "keys")[0].removeprefix("encoder.")
        values = references(node, "values")[0].removeprefix("encoder.")
        if node.attributes["score"] == "dot":
            energy = f"{query}.view(batch, -1, {size}) @ {keys}_transposed"
        else:
            v = f"{self._prefix}_{node.name}_v"
            self.modules[v] = nn.ParameterList([_parameter(self.wiring.array(node, "v"))])
            both = f"{query}.view(batch, -1, 1, {size}) + {keys}_keys.unsqueeze(1)"
            energy = f"torch.{node.attributes['activation']}({both}) @ m[{v!r}][0]"
        if node.attributes["scale"] != 1.0:
            energy = f"({energy}) * {node.attributes['scale']}"
        (weights,) = self._line(node, f"torch.softmax({energy}, -1)", "weights")
        context = f"({weights} @ {values}_values).flatten(0, 1)"
        (self.values[f"{node.name}.context"],) = self._line(node, context, "context")

    def _sizes(self, node: Node) -> tuple[int, int]:
        return self.wiring.array(node, "weight_ih").shape[1], self.wiring.array(
            node, "weight_hh"
        ).shape[1]

    def _fill_cell(self, module: nn.Module, node: Node, suffix: str) -> None:
        check_cell(node)
        for role in ("weight_ih", "weight_hh"):
            _fill(getattr(module, role + suffix), self.wiring.array(node, role))
        for role in ("bias_ih", "bias_hh"):
            _fill(getattr(module, role + suffix), self.wiring.bias(node, role, "weight_ih"))


def _fill(parameter: Tensor, array: Array) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(array)))


def _parameter(array: Array) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array)), requires_grad=False)


FORMS = {
    "values": ".transpose(0, 1)",
    "keys": ".transpose(0, 1)",
    "transposed": ".permute(1, 2, 0)",
}


def source_of(wiring: Wiring, modules: Modules) -> str:
    """`encode(m, tokens)` of ids [S, B] and `step(m, token, states, held, batch)` of ids [R]."""
    encoder = Source(wiring, wiring.encoder, modules, "e")
    encoder.values["tokens"] = "tokens"
    encoder.write()
    outputs = {name: encoder.values[ref] for name, ref in wiring.encoder.outputs.items()}
    states = [
        outputs[state.initial] if state.initial else f"torch.zeros(tokens.shape[1], {state.size})"
        for state in wiring.states
    ]
    held = [f"{outputs[held.output]}{FORMS[held.form]}.contiguous()" for held in wiring.held]
    decoder = Source(wiring, wiring.decoder, modules, "d")
    decoder.values["token"] = "token"
    decoder.values |= {f"state.{state.name}": f"s_{state.name}" for state in wiring.states}
    decoder.write()
    after = [decoder.values[state.next] for state in wiring.states]
    return "\n".join(
        [
            "def encode(m, tokens):",
            *(f"    {line}" for line in encoder.lines),
            f"    return {_tuple(states)}, {_tuple(held)}",
            "def step(m, token, states, held, batch):",
            f"    {_tuple(['s_' + s.name for s in wiring.states])} = states",
            *([f"    {_tuple([h.name for h in wiring.held])} = held"] if wiring.held else []),
            *(f"    {line}" for line in decoder.lines),
            f"    return {decoder.values[wiring.logits]}, {_tuple(after)}",
        ]
    )


def _tuple(parts: Sequence[str]) -> str:
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


class Torch:
    """Decoding over the two functions. `compiled`: the step passes through torch.compile."""

    def __init__(self, workload: Workload, *, quantised: bool = False) -> None:
        self.wiring = Wiring(workload)
        self.modules = Modules()
        scope: dict[str, Any] = {"torch": torch}
        exec(compile(source_of(self.wiring, self.modules), "<model>", "exec"), scope)
        self.modules.requires_grad_(False)
        if quantised:
            kinds = {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                quantise: Callable[..., Any] = torch.ao.quantization.quantize_dynamic
                self.modules = quantise(self.modules, kinds)
        modules = dict(self.modules.items())
        encode, step = scope["encode"], scope["step"]
        self.encode: Callable[..., Any] = lambda tokens: encode(modules, tokens)
        self.step: Callable[..., Any] = lambda *arguments: step(modules, *arguments)

    @torch.inference_mode()
    def greedy(self, sources: Sequence[Sequence[int]], steps: int) -> list[list[int]]:
        states, held = self.encode(torch.tensor(sources).t())
        batch = len(sources)
        token, found = torch.full((batch,), self.wiring.start), []
        for _ in range(steps):
            logits, states = self.step(token, states, held, batch)
            token = logits.argmax(-1)
            found.append(token)
        answer: list[list[int]] = torch.stack(found, 1).tolist()
        return answer

    @torch.inference_mode()
    def beam(self, sources: Sequence[Sequence[int]], steps: int) -> list[list[int]]:
        """Of the best 2K candidates (K without an end token), those that end leave the beam; a
        sentence stops when its best live hypothesis is behind its best ended one."""
        wiring, size, batch = self.wiring, self.wiring.beam, len(sources)
        vocabulary, end = wiring.vocabulary, wiring.end
        states, held = self.encode(torch.tensor(sources).t())
        states = tuple(state.repeat_interleave(size, 0) for state in states)
        token = torch.full((batch * size,), wiring.start)
        scores = torch.full((batch, size), -torch.inf)
        scores[:, 0] = 0.0
        first = torch.arange(batch).unsqueeze(1) * size
        tokens, parents = [], []
        best_ended, ended_at = -torch.inf, (0, 0)
        for number in range(steps):
            logits, states = self.step(token, states, held, batch)
            total = torch.log_softmax(logits, -1).view(batch, size, vocabulary)
            total = (total + scores.unsqueeze(2)).view(batch, -1)
            scores, index = total.topk(size if end is None else 2 * size)
            parent, chosen = index // vocabulary, index % vocabulary
            if end is not None:
                ends = chosen[0] == end
                at = ends.nonzero()
                if len(at) and float(scores[0, at[0, 0]]) > best_ended:
                    best_ended = float(scores[0, at[0, 0]])
                    ended_at = (number, int(parent[0, at[0, 0]]))
                live = (~ends).nonzero()[:size, 0]
                scores, parent, chosen = scores[:, live], parent[:, live], chosen[:, live]
            rows, token = (parent + first).view(-1), chosen.view(-1)
            tokens.append(token)
            parents.append(rows)
            if best_ended >= float(scores[0, 0]) and end is not None:
                break
            states = tuple(state[rows] for state in states)
        return self._paths(torch.stack(tokens), torch.stack(parents), best_ended, ended_at, batch)

    def _paths(
        self,
        tokens: Tensor,
        parents: Tensor,
        best_ended: float,
        ended_at: tuple[int, int],
        batch: int,
    ) -> list[list[int]]:
        if best_ended > -np.inf:
            last, row = ended_at
            tokens, parents = tokens[:last], parents[:last]
            rows = torch.tensor([row])
        else:
            rows = torch.arange(batch) * self.wiring.beam
        columns = []
        for step in range(len(tokens) - 1, -1, -1):
            columns.append(tokens[step][rows])
            rows = parents[step][rows]
        if not columns:
            return [[] for _ in range(batch)]
        answer: list[list[int]] = torch.stack(columns[::-1], 1).tolist()
        return answer

    @property
    def decode(self) -> Decode:
        return self.greedy if self.wiring.beam == 1 else self.beam


def eager(workload: Workload, threads: int) -> list[Peer]:
    return [Peer("pytorch eager", Torch(workload).decode, prepare=_threads(threads))]


def int8(workload: Workload, threads: int) -> list[Peer]:
    decode = Torch(workload, quantised=True).decode
    return [Peer("pytorch dynamic int8", decode, exact=False, prepare=_threads(threads))]


def compiled(workload: Workload, threads: int) -> list[Peer]:
    """The step through torch.compile (inductor, which needs a C++ compiler), the encoder eager: its
    layers are single operators already."""
    peer = Torch(workload)
    peer.step = torch.compile(peer.step, dynamic=False)
    return [Peer("pytorch compiled", peer.decode, prepare=_threads(threads))]


def _threads(threads: int) -> Callable[[], None]:
    return lambda: torch.set_num_threads(threads)
