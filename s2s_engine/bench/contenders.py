"""Who decodes a workload: engines of every compute type that is built, and peers; and the check
that their answers are equal. Knows how each is called; never a clock's result."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import Engine
from .. import _core as core
from ..options import DecodeOptions
from .measure import Contender
from .options import ABSENT, PEERS
from .workloads import Workload

COMPUTE_TYPES = ("float32", "bfloat16", "int8")
BASE = "s2s_engine float32"
EAGER = "pytorch eager"
# Who takes so many times the engine's time, and more than a second a turn, is not timed: a block of
# it would be most of the run.
TOO_SLOW, SECOND = 8, 1.0


@dataclass(frozen=True)
class Answering:
    """A contender with its answers: `answer(turn)` gives the ids of each sentence of a turn.
    exact: they must be those of the float32 engine."""

    contender: Contender
    answer: Callable[[int], list[list[int]]]
    exact: bool
    peer: bool


@dataclass
class Field:
    """All contenders of a workload, the float32 engine first, and who is missing and why. steps: of
    each source, the end token's included."""

    all: list[Answering]
    left_out: dict[str, str]
    expected: list[list[int]]
    steps: list[int]
    engines: list[Engine] = field(default_factory=list)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()


def line_up(workload: Workload, threads: int, peers: Sequence[str]) -> Field:
    made = Field([], {}, [], [])
    for type_ in COMPUTE_TYPES:
        try:
            engine = Engine.load(workload.model, threads=threads, compute_type=type_)
        except NotImplementedError:
            made.left_out[f"s2s_engine {type_}"] = "this compute type is not built"
            continue
        made.engines.append(engine)
        made.all.append(_engine(workload, engine, type_))
        if type_ == "float32":
            _expect(made, workload, engine)
    if workload.batch == 1 and made.engines[0]._core.inputs == ["tokens"]:
        made.all.append(_core(workload, made.engines[0]))
    for name in peers:
        made.all += _peers(workload, threads, name, made)
    return made


def _engine(workload: Workload, engine: Engine, type_: str) -> Answering:
    """As a caller uses it: letters or ids in, results with strings and log-probabilities out."""
    inputs, options, beam = workload.inputs, workload.options, workload.beam
    if workload.batch == 1:

        def turn(number: int) -> object:
            return engine.decode(inputs[number], beam_size=beam, **options).ids

        def answer(number: int) -> list[list[int]]:
            return [engine.decode(inputs[number], beam_size=beam, **options).ids]

    else:
        batches = [_part(inputs, number, workload.batch) for number in range(workload.turns)]
        size = -(-workload.batch // engine.info.threads)

        def turn(number: int) -> object:
            found = engine.decode_batch(batches[number], batch_size=size, beam_size=beam, **options)
            return [result.ids for result in found]  # made when they are read

        def answer(number: int) -> list[list[int]]:
            found = engine.decode_batch(batches[number], batch_size=size, beam_size=beam, **options)
            return [result.ids for result in found]

    contender = Contender(f"s2s_engine {type_}", turn, alone=engine.info.threads == 1)
    return Answering(contender, answer, type_ == "float32", False)


def _core(workload: Workload, engine: Engine) -> Answering:
    """The C++ session below `Engine.decode`, given prepared ids: what Python adds is the rest."""
    session = engine._session()
    options = DecodeOptions.of(workload.model.generation, None, workload.options)
    limits = [options.limit(len(source)) for source in workload.sources]
    sources, request = workload.sources, core.Request(workload.beam)

    def turn(number: int) -> object:
        found = session.decode([sources[number]], request, limits[number])
        return found.hypotheses[0][0]  # made when they are read

    def answer(number: int) -> list[list[int]]:
        return [session.decode([sources[number]], request, limits[number]).hypotheses[0][0]]

    contender = Contender(f"{BASE}, core only", turn, alone=engine.info.threads == 1)
    return Answering(contender, answer, True, False)


def _expect(made: Field, workload: Workload, engine: Engine) -> None:
    for x in workload.inputs:
        best = engine.decode(x, beam_size=workload.beam, **workload.options).hypotheses[0]
        made.expected.append(list(best.ids))
        made.steps.append(len(best.token_log_probs))


def _peers(workload: Workload, threads: int, name: str, made: Field) -> list[Answering]:
    if name in ABSENT:
        made.left_out[name] = ABSENT[name]
        return []
    maker = PEERS[name]
    missing = [package for package in maker.packages if importlib.util.find_spec(package) is None]
    if missing:
        made.left_out[name] = f"{' and '.join(missing)} not installed"
        return []
    from .peers.wiring import Unsupported

    module = importlib.import_module(f"{__package__}.peers.{maker.module}")
    try:
        peers = getattr(module, maker.function)(workload, threads)
    except Unsupported as reason:
        made.left_out[name] = str(reason)
        return []
    end, batch = set(workload.model.end), workload.batch
    options = DecodeOptions.of(workload.model.generation, None, workload.options)
    # A greedy peer is told how many steps to make; a beam is told the longest allowed.
    steps = made.steps if workload.beam == 1 else [
        options.limit(len(source)) for source in workload.sources
    ]  # fmt: skip

    def answering(peer: object) -> Answering:
        decode = peer.decode  # type: ignore[attr-defined]

        def turn(number: int) -> object:
            return decode(_part(workload.sources, number, batch), steps[number * batch])

        def answer(number: int) -> list[list[int]]:
            peer.prepare()  # type: ignore[attr-defined]
            found = decode(_part(workload.sources, number, batch), steps[number * batch])
            return [[token for token in ids if token not in end] for ids in found]

        contender = Contender(peer.name, turn, peer.prepare)  # type: ignore[attr-defined]
        return Answering(contender, answer, peer.exact, True)  # type: ignore[attr-defined]

    return [answering(peer) for peer in peers]


def _part(
    all_: Sequence[list[int]] | Sequence[object], number: int, batch: int
) -> Sequence[object]:
    return all_[number * batch : (number + 1) * batch]


class Unequal(Exception):
    """A float32 contender gave other ids than the engine: no time without equal answers."""


def check(workload: Workload, made: Field) -> dict[str, float]:
    """The share of ids, position by position, that are the float32 engine's, for each contender.

    Raises Unequal where a float32 contender has another one. Who answers, but is far slower than
    the engine, is left out from here on, with the reason.
    """
    shares, stay, base = {}, [], 0.0
    for one in made.all:
        name, found = one.contender.name, []
        for number in range(workload.turns):
            begin = time.perf_counter()
            found += one.answer(number)
            took = time.perf_counter() - begin  # of the last turn: the first ones warm up
        base = base or took
        if one.peer and took > SECOND and took > TOO_SLOW * base:
            made.left_out[name] = f"{took:.1f} s a turn, {took / base:.0f} times the engine's"
        else:
            stay.append(one)
        shares[name] = equal_share(found, made.expected)
        if one.exact and found != made.expected:
            at = next(n for n, ids in enumerate(found) if ids != made.expected[n])
            raise Unequal(
                f"{workload.key}, source {at}: {name} gives {found[at]}, the engine gave "
                f"{made.expected[at]}. No times without equal answers."
            )
    made.all = stay
    return shares


def equal_share(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> float:
    """Of all positions of the longer of two answers, those with the same id."""
    same = sum(a == b for x, y in zip(found, expected, strict=True) for a, b in zip(x, y))  # noqa: B905
    return same / max(1, sum(max(len(x), len(y)) for x, y in zip(found, expected, strict=True)))
