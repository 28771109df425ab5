"""Random models that the checker accepts, from a seed. Knows every operation, role and attribute
value of the set; never what a test asks of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from s2s_engine import Model, ModelBuilder
from s2s_engine.operations import ACTIVATIONS, OPERATIONS, ValueType

SOURCE, TARGET, TAGS, FEATURES, VECTOR, BOUND = 7, 6, 3, 3, 4, 40
SIZES = (1, 2, 3, 4, 6, 9, 17, 33)
DIRECTIONS = ("forward", "backward")


class Known(NamedTuple):
    """A value, or the name of an encoder's output, and its type."""

    x: Any
    type: ValueType


class Author:
    """Writes random operations on one graph; `values` are those that may be read."""

    def __init__(
        self, random: np.random.Generator, g: Any, place: str, values: list[Known]
    ) -> None:
        self.random, self.g, self.place, self.values = random, g, place, list(values)
        self.alignments: list[Any] = []

    # --- choices ---

    def one(self, items: Sequence[Any]) -> Any:
        return items[int(self.random.integers(len(items)))]

    def maybe(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def size(self) -> int:
        return int(self.one(SIZES))

    def activation(self) -> str:
        return str(self.one(ACTIVATIONS))

    def weight(self, *shape: int) -> Any:
        """Products with features of order 1 are of order 1."""
        scale = 0.8 / math.sqrt(shape[-1])
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def bias(self, size: int) -> Any:
        return self.weight(size) if self.maybe() else None

    # --- values ---

    def keep(self, *values: Any) -> None:
        self.values += [Known(value, value.type) for value in values]

    def of(self, *kinds: str, fits: Callable[[ValueType], bool] = lambda _: True) -> list[Known]:
        return [v for v in self.values if v.type.kind in kinds and fits(v.type)]

    def vector(self, size: int | None = None) -> Known:
        found = self.of("vector", fits=lambda t: size in (None, t.size))
        if found and (size is None or self.maybe(0.7)):
            return self.known(self.one(found))
        source = self.one(self.of("vector"))
        size = size or self.size()
        return self.known(
            self.g.linear(source.x, self.weight(size, source.type.size), self.bias(size))
        )

    def sequence(self, size: int | None = None, length: tuple[int, int] | None = None) -> Known:
        def has(t: ValueType) -> bool:
            return length in (None, t.length)

        found = self.of("sequence", fits=lambda t: has(t) and size in (None, t.size))
        if found and (size is None or self.maybe(0.7)):
            return self.known(self.one(found))
        source = self.one(self.of("sequence", fits=has))
        size = size or self.size()
        return self.known(self.g.linear(source.x, self.weight(size, source.type.size)))

    def known(self, value: Any) -> Known:
        return value if isinstance(value, Known) else Known(value, value.type)

    def either(self, size: int | None = None) -> Known:
        """A vector or a sequence."""
        return self.vector(size) if self.maybe() or not self.of("sequence") else self.sequence(size)

    def several(self, first: Known, size: int | None = None) -> list[Known]:
        """`first` and up to two more that go with it, sequences of its length among them."""
        values = [first]
        for _ in range(int(self.random.integers(0, 3))):
            if first.type.kind == "sequence" and self.maybe():
                values.append(self.sequence(size, first.type.length))
            else:
                values.append(self.vector(size))
        return [values[int(i)] for i in self.random.permutation(len(values))]

    # --- operations ---

    def write(self, op: str) -> None:
        """One call of an operation, where values are that it takes."""
        getattr(self, f"op_{op}")()

    def op_embedding(self) -> None:
        x = self.one(self.of("id", "ids"))
        rows = x.type.size + int(self.random.integers(0, 3))
        self.keep(self.g.embedding(x.x, self.weight(rows, self.size()), scale=self.one([1.0, 1.7])))

    def op_one_hot(self) -> None:
        x = self.one(self.of("id", "ids"))
        self.keep(self.g.one_hot(x.x, x.type.size + int(self.random.integers(0, 3))))

    def op_constant(self) -> None:
        given = {"value": self.weight(self.size())} if self.maybe() else {"size": self.size()}
        self.keep(self.g.constant(**given))

    def op_linear(self) -> None:
        xs, size = self.several(self.either()), self.size()
        weight = self.weight(size, sum(x.type.size for x in xs))
        self.keep(
            self.g.linear([x.x for x in xs], weight, self.bias(size), activation=self.activation())
        )

    def op_concat(self) -> None:
        self.keep(self.g.concat([x.x for x in self.several(self.either())]))

    def op_slice(self) -> None:
        x = self.either()
        start = int(self.random.integers(x.type.size))
        stop = int(self.random.integers(start, x.type.size)) + 1
        self.keep(self.g.slice(x.x, start, stop))

    def op_join(self) -> None:
        first = self.sequence()
        size = first.type.size
        xs = [first, *(self.either(size) for _ in range(int(self.random.integers(1, 3))))]
        if sum(x.type.length[0] for x in xs) <= 4:
            self.keep(self.g.join([xs[int(i)].x for i in self.random.permutation(len(xs))]))

    def op_add(self) -> None:
        self._map(self.g.add)

    def op_multiply(self) -> None:
        self._map(self.g.multiply)

    def _map(self, call: Callable[..., Any]) -> None:
        first = self.either()
        wide = 1 if self.maybe(0.2) else first.type.size
        xs = [*self.several(first, first.type.size), self.vector(wide)]
        self.keep(call(*(x.x for x in xs)))

    def op_interpolate(self) -> None:
        gate = self.either()
        raw = self.known(self.g.activation(gate.x, "sigmoid")) if self.maybe(0.8) else gate
        length = gate.type.length if gate.type.kind == "sequence" else None
        size = gate.type.size
        a, b = (
            self.sequence(size, length) if length and self.maybe() else self.vector(size)
            for _ in range(2)
        )
        self.keep(self.g.interpolate(raw.x, a.x, b.x))

    def op_activation(self) -> None:
        self.keep(self.g.activation(self.either().x, self.activation()))

    def op_softmax(self) -> None:
        self.keep(self.g.softmax(self.either().x))

    def op_maxout(self) -> None:
        x = self.either()
        self.keep(self.g.maxout(x.x, self.one([p for p in range(1, 5) if x.type.size % p == 0])))

    def op_layer_norm(self) -> None:
        size = int(self.one([s for s in SIZES if s > 1]))
        x, eps = self.either(size), self.one([1e-5, 1e-3])
        self.keep(self.g.layer_norm(x.x, self.bias(size), self.bias(size), eps=eps))

    def op_pool(self) -> None:
        how = self.one(["last", "first", "mean", "max", "sum"])
        self.keep(self.g.pool(self.sequence().x, how))

    def op_reverse(self) -> None:
        x = self.one(self.of("ids", "sequence"))
        self.keep(self.g.reverse(x.x))

    def op_to_positions(self) -> None:
        self.keep(self.g.to_positions(self.vector().x))

    def op_scatter(self) -> None:
        ids = self.one(self.of("ids"))
        weights = self.sequence(1, ids.type.length)
        self.keep(self.g.scatter(weights.x, ids.x, ids.type.size + int(self.random.integers(0, 3))))

    def op_first_step(self) -> None:
        x = self.vector()
        self.keep(self.g.first_step(x.x, self.vector(x.type.size).x))

    def _cell(self, gates: int, inputs: int | None) -> tuple[dict[str, Any], int, int]:
        """Weights, and the sizes of h and c."""
        hidden = size = self.size()
        cell = {}
        if gates == 4 and self.maybe(0.3):
            size = self.size()
            cell["projection"] = self.weight(size, hidden)
        if gates == 4 and self.maybe(0.3):
            cell["peephole"] = self.weight(3 * hidden)
        cell["weight_hh"] = self.weight(gates * hidden, size)
        if inputs is not None:
            cell["weight_ih"] = self.weight(gates * hidden, inputs)
        for role in ("bias_ih", "bias_hh"):
            if self.maybe():
                cell[role] = self.weight(gates * hidden)
        return cell, size, hidden

    def _options(self, gates: int, layer: bool) -> dict[str, Any]:
        # Unbounded gates make a step quadratic in its state: seldom, or nothing else is seen, and
        # never in a body, whose values a test cannot look at to know that float32 is too small.
        body = self.place == "body"
        plain = self.maybe(0.6) or body
        options: dict[str, Any] = {"activation": "tanh" if plain else self.activation()}
        if layer:
            options["direction"] = self.one(DIRECTIONS)
        if gates > 1:
            options["gate_activation"] = "sigmoid" if self.maybe(0.7) or body else self.activation()
        if gates == 3:
            options["reset"] = self.one(["after", "before"])
        if gates == 4:
            options["clip"] = self.one([0.0, 0.5])
        return options

    def _states(self, gates: int, h: int, c: int) -> list[Any]:
        sizes = [h, c] if gates == 4 else [h]
        return [self.vector(size).x if self.maybe() else None for size in sizes]

    def _layer(self, name: str, gates: int) -> None:
        xs = self.several(self.sequence())
        cell, h, c = self._cell(gates, sum(x.type.size for x in xs))
        states = self._states(gates, h, c)
        run = getattr(self.g, name)
        self.keep(*run([x.x for x in xs], cell, *states, **self._options(gates, True)))

    def _one_step(self, name: str, gates: int) -> None:
        xs = self.several(self.vector()) if self.maybe(0.8) else []
        cell, h, c = self._cell(gates, sum(x.type.size for x in xs) if xs else None)
        states = self._states(gates, h, c)
        run = getattr(self.g, name)
        found = run([x.x for x in xs] if xs else None, *states, cell, **self._options(gates, False))
        self.keep(*(found if isinstance(found, tuple) else (found,)))

    def op_rnn(self) -> None:
        self._layer("rnn", 1)

    def op_gru(self) -> None:
        self._layer("gru", 3)

    def op_lstm(self) -> None:
        self._layer("lstm", 4)

    def op_rnn_cell(self) -> None:
        self._one_step("rnn_cell", 1)

    def op_gru_cell(self) -> None:
        self._one_step("gru_cell", 3)

    def op_lstm_cell(self) -> None:
        self._one_step("lstm_cell", 4)

    def op_scan(self) -> None:
        xs = self.several(self.sequence())

        def body(step: Any, x: Any) -> Any:
            inner = Author(self.random, step, "body", [*self.values, Known(x, x.type)])
            states = {}
            for number in range(int(self.random.integers(0, 3))):
                initial = self.one(self.of("vector")) if self.maybe() else None
                size = {"size": self.size()} if initial is None else {"initial": initial.x}
                states[f"s{number}"] = step.state(f"s{number}", **size)
            inner.keep(x, *states.values())
            inner.some(int(self.random.integers(1, 5)))
            for name, state in states.items():
                fits = inner.of("vector", fits=lambda t, n=state.type.size: t.size == n)
                plain = inner.one(fits).x
                mixed = inner.vector(state.type.size).x
                step.next({name: step.activation(mixed, "tanh") if inner.maybe(0.7) else plain})
            return inner.one(inner.of("vector")).x

        sequence, states = self.g.scan([x.x for x in xs], body, direction=self.one(DIRECTIONS))
        self.keep(sequence, *states.values())

    def op_attention(self) -> None:
        values = self.sequence()
        length, heads = values.type.length, int(self.one([1, 1, 2, 3]))
        if values.type.size % heads:
            values = self.sequence(2 * heads, length)
        score = self.one(["dot", "additive", "given"])
        roles: dict[str, Any] = {"values": values.x}
        asks: ValueType | None = None
        if score == "given":
            roles["scores"] = self.sequence(heads, length).x
        else:
            size = heads * int(self.one([1, 3, 5]))
            query = self.sequence(size) if self.maybe(0.3) else self.vector(size)
            asks = query.type if query.type.kind == "sequence" else None
            roles |= {"query": query.x, "keys": self.sequence(size, length).x}
            roles |= {"v": self.weight(size)} if score == "additive" else {}
        roles |= {"energy_bias": self.weight(1)} if self.maybe(0.3) else {}
        if self.maybe(0.4):
            roles |= {
                "centre": self._centre(asks),
                "window": self.one([1, 2]),
                "gaussian": self.maybe(),
            }
        context, weights = self.g.attention(
            score=score,
            heads=heads,
            scale=self.one([1.0, 0.6]),
            activation=self.activation(),
            energy_activation="identity" if self.maybe(0.6) else self.activation(),
            normaliser="softmax" if self.maybe(0.75) else "none",
            **roles,
        )
        self.keep(context)
        if weights.type.kind == "sequence":
            self.keep(weights)
        elif self.place == "encoder":
            self.alignments.append(weights)

    def _centre(self, asks: ValueType | None) -> Any:
        kind = "id" if asks is None else "ids"
        length = (0, 0) if asks is None else asks.length
        ids = self.of(kind, fits=lambda t: t.length == length)
        if ids and self.maybe():
            return self.one(ids).x
        x = self.vector(1) if asks is None else self.sequence(1, length)
        # Positions around the middle of a sentence, and some outside.
        spread = self.g.linear(x.x, 3.0 * self.weight(1, 1), np.full(1, 2.3, np.float32))
        return spread

    def some(self, count: int) -> None:
        """`count` random operations that may stand here and find what they take."""
        names = [name for name, operation in OPERATIONS.items() if self.place in operation.places]
        for _ in range(count):
            self.write(self.one(names))


def random_model(seed: int) -> Model:
    """A model with an encoder and a decoder, of which every part is drawn."""
    random = np.random.default_rng(seed)
    m = ModelBuilder(source=SOURCE, target=TARGET)
    e, d = m.encoder, m.decoder
    a = Author(random, e, "encoder", [])
    a.keep(
        e.tokens,
        e.input("features", sequence=FEATURES),
        e.input("vector", vector=VECTOR),
        e.input("tag", id=TAGS),
    )
    if a.maybe():
        a.keep(e.position(BOUND))
    if a.maybe():
        length = e.source_length()
        a.keep(e.linear(length, np.full((1, 1), 0.1, np.float32)))
    a.some(int(random.integers(4, 12)))
    shown = [v for v in a.values if a.maybe(0.6) and v.type.kind != "id"]
    outputs = {f"o{number}": v.x for number, v in enumerate(shown)}
    outputs |= {f"map{number}": x for number, x in enumerate(a.alignments)}
    e.output(ids=e.tokens, memory=a.values[1].x, summary=a.values[2].x, **outputs)

    named = [Known(name, type_) for name, type_ in e.output_types().items()]
    b = Author(random, d, "decoder", [n for n in named if n.type.kind != "alignment"])
    b.keep(d.token)
    if b.maybe():
        b.keep(d.step(BOUND))
    if b.maybe():
        length = d.source_length()
        b.keep(d.linear(length, np.full((1, 1), 0.1, np.float32)))
    b.keep(d.embedding(d.token, b.weight(TARGET, b.size())))
    states = []
    for number in range(int(random.integers(1, 4))):
        kind = "sequence" if b.maybe(0.3) else "vector"
        starts = [n for n in named if n.type.kind == kind and n.type.length in ((0, 0), (1, 0))]
        if b.maybe() and starts:
            states.append(d.state(f"s{number}", initial=b.one(starts).x))
        else:
            states.append(d.state(f"s{number}", size=b.size(), kind=kind))
    b.keep(*states)
    b.some(int(random.integers(4, 12)))
    for number, state in enumerate(states):
        fits = b.of(state.type.kind, fits=lambda t, s=state.type: t == s)
        if b.maybe(0.4):
            d.next({f"s{number}": b.one(fits).x})  # another state, an encoder output, itself
            continue
        mixed = (
            b.vector(state.type.size)
            if state.type.kind == "vector"
            else b.sequence(state.type.size, (1, 0))
        )
        x = [mixed.x, *(v.x for v in b.several(b.vector()))]
        inputs = sum(b.known(v).type.size if not isinstance(v, str) else 0 for v in x)
        inputs += sum(n.type.size for v in x if isinstance(v, str) for n in named if n.x == v)
        d.next({f"s{number}": d.linear(x, b.weight(state.type.size, inputs), activation="tanh")})
    maps = b.of("sequence")
    if maps and b.maybe(0.7):
        d.output(alignment=b.one(maps).x)
    logits = b.several(b.vector())
    bounded = [d.activation(v.x, "tanh") if b.maybe() else v.x for v in logits]
    weight = 3.0 * b.weight(TARGET, sum(v.type.size for v in logits))
    d.output(logits=d.linear(bounded, weight))
    start = None if b.maybe(0.3) else 0
    return m.build(start=start, end=[1], generation={"max_length": 5})


def random_inputs(seed: int, length: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "tokens": random.integers(0, SOURCE, length).tolist(),
        "features": random.standard_normal((length, FEATURES)).astype(np.float32),
        "vector": random.standard_normal(VECTOR).astype(np.float32),
        "tag": int(random.integers(TAGS)),
    }
