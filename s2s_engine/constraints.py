"""What a caller forces, forbids and allows in the output: tokens and ids become ids of one model,
and lists, sequences and automata become one automaton. Knows a target vocabulary and end tokens;
never scores or beams."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import InputError
from .options import DecodeOptions, is_each

# The ids so far -> the ids that may follow, end tokens among them.
Continuations: TypeAlias = Callable[[list[int]], Iterable[int]]
# (what a caller's tokens are called in messages, the tokens) -> their ids
ToIds: TypeAlias = Callable[[str, object], list[int]]


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton over ids without end tokens: an end may follow a `final` state."""

    arcs: Sequence[Mapping[int, int]]
    final: Sequence[bool]
    start: int = 0

    @staticmethod
    def of_ids(ids: Iterable[int]) -> Automaton:
        """Any of these ids at any place, an end anywhere."""
        return Automaton([dict.fromkeys(ids, 0)], [True])

    @staticmethod
    def of_sequences(sequences: Iterable[Sequence[int]]) -> Automaton:
        """These sequences and no other: a trie."""
        arcs: list[dict[int, int]] = [{}]
        final = [False]
        for ids in sequences:
            state = 0
            for token in ids:
                if token not in arcs[state]:
                    arcs[state][token] = len(arcs)
                    arcs.append({})
                    final.append(False)
                state = arcs[state][token]
            final[state] = True
        return Automaton(arcs, final)

    def after(self, ids: Sequence[int]) -> int | None:
        """The state behind these ids; None where they lead nowhere."""
        state: int | None = self.start
        for token in ids:
            state = None if state is None else self.arcs[state].get(token)
        return state

    def allowed(self, ids: Sequence[int], end: Sequence[int]) -> set[int]:
        """What may follow these ids."""
        state = self.after(ids)
        if state is None:
            return set()
        return {*self.arcs[state], *(end if self.final[state] else ())}

    def core(self) -> tuple[list[int], list[int], list[int], list[bool], int]:
        """Where the arcs of each state begin, their ids, their states; final states; start."""
        begins, tokens, targets = [0], list[int](), list[int]()
        for arcs in self.arcs:
            for token in sorted(arcs):
                tokens.append(token)
                targets.append(arcs[token])
            begins.append(len(tokens))
        return begins, tokens, targets, list(self.final), self.start


@dataclass(frozen=True)
class Constraints:
    """The constraints of one call, in ids. `end` are the end tokens of the call."""

    end: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    automaton: Automaton | None = None
    continuations: Continuations | None = field(default=None, compare=False)

    @staticmethod
    def of(options: DecodeOptions, end: Sequence[int], to_ids: ToIds) -> Constraints:
        """What the options say, for a model with these end tokens."""

        def ids(name: str) -> tuple[int, ...]:
            given = getattr(options, name)
            return tuple(dict.fromkeys(to_ids(f"option {name}", given))) if given else ()

        end = tuple(end) if options.end_tokens is None else ids("end_tokens")
        prefix = prefix_ids(options, end, to_ids)
        suppressed = ids("suppress_tokens")
        allowed = options.allowed_tokens
        function = allowed if callable(allowed) else None
        automaton = None if allowed is None or function else _automaton(allowed, end, to_ids)
        return Constraints(
            end, prefix, suppressed, float(options.repetition_penalty),
            options.no_repeat_ngram_size, automaton, function,
        )  # fmt: skip

    @property
    def are_none(self) -> bool:
        """Whether an output may be anything."""
        return not self.filters and not self.prefix

    @property
    def filters(self) -> bool:
        """Whether anything but the prefix and the end tokens is asked for."""
        return (
            bool(self.suppressed)
            or self.repetition_penalty != 1
            or self.no_repeat_ngram_size > 0
            or self.automaton is not None
            or self.continuations is not None
        )

    def core(self) -> dict[str, Any]:
        """The arguments of the core's Constraints."""
        return {
            "prefix": self.prefix,
            "end": self.end,
            "suppressed": self.suppressed,
            "repetition_penalty": self.repetition_penalty,
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
            "automaton": None if self.automaton is None else self.automaton.core(),
            "continuations": self.continuations,
        }


def prefix_ids(options: DecodeOptions, end: Sequence[int], to_ids: ToIds) -> tuple[int, ...]:
    """The prefix in ids; `end` are the end tokens of the call."""
    if is_each(options.prefix):
        raise InputError(
            "prefix is a list of lists, one for each source, which is for decode_batch and "
            "decode_iter; give one list of tokens"
        )
    prefix = tuple(to_ids("prefix", options.prefix)) if options.prefix else ()
    _without_ends("prefix", prefix, end)
    return prefix


def _automaton(allowed: Any, end: tuple[int, ...], to_ids: ToIds) -> Automaton:
    if isinstance(allowed, Mapping):
        automaton = _of_mapping(allowed, to_ids)
    elif allowed and all(isinstance(item, tuple) for item in allowed):
        sequences = [to_ids(f"allowed output {n}", ids) for n, ids in enumerate(allowed)]
        automaton = Automaton.of_sequences(sequences)
    else:
        ids = to_ids("option allowed_tokens", allowed)
        return Automaton.of_ids(id_ for id_ in ids if id_ not in end)
    if not end:
        raise InputError(
            "allowed_tokens says where an output may end, but this model has no end token; give "
            "end_tokens"
        )
    for arcs in automaton.arcs:
        _without_ends("allowed_tokens", arcs, end)
    return automaton


def _of_mapping(given: Mapping[str, Any], to_ids: ToIds) -> Automaton:
    """{"transitions": {state: {token: state}}, "start": state, "final": [states]}."""
    transitions: Mapping[Hashable, Mapping[Any, Hashable]] = given["transitions"]
    try:
        numbers: dict[Hashable, int] = {given["start"]: 0}
        for state, arcs in transitions.items():
            numbers.setdefault(state, len(numbers))
            for target in arcs.values():
                numbers.setdefault(target, len(numbers))
        final = set(given["final"])
    except TypeError as error:
        raise InputError(f"allowed_tokens: a state is no name or number: {error}") from None
    for state in given["final"]:
        if state not in numbers:
            raise InputError(f"allowed_tokens: the final state {state!r} is in no transition")
    made: list[dict[int, int]] = [{} for _ in numbers]
    for state, arcs in transitions.items():
        ids = to_ids(f"transitions from {state!r} in allowed_tokens", tuple(arcs))
        made[numbers[state]] = dict(
            zip(ids, (numbers[target] for target in arcs.values()), strict=True)
        )
    return Automaton(made, [state in final for state in numbers])


def _without_ends(name: str, ids: Iterable[int], end: Sequence[int]) -> None:
    for id_ in ids:
        if id_ in end:
            raise InputError(
                f"{name} holds the end token {id_}, which is no part of an output: leave it out"
            )
