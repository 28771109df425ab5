"""Reads the CMU dictionary, splits it by word and numbers letters and phonemes.
The split depends only on each word's SHA-256, so it never changes between runs."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE_SPECIALS = ("<pad>", "</s>")
TARGET_SPECIALS = ("<pad>", "<s>", "</s>")
SOURCE_END = 1
TARGET_PAD, TARGET_START, TARGET_END = 0, 1, 2

_WORD = re.compile(r"[a-z'.-]+")
_ALTERNATIVE = re.compile(r"\(\d+\)$")

Entries = dict[str, list[tuple[str, ...]]]


@dataclass(frozen=True)
class Vocabulary:
    """The fixed source and target symbols; a symbol's id is its position."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def encode_word(self, word: str) -> list[int]:
        """Gives the source ids of a word, the end mark included."""
        index = {symbol: i for i, symbol in enumerate(self.source)}
        return [index[letter] for letter in word] + [SOURCE_END]

    def encode_phonemes(self, phonemes: Sequence[str]) -> list[int]:
        """Gives the target ids of a pronunciation, without start or end mark."""
        index = {symbol: i for i, symbol in enumerate(self.target)}
        return [index[phoneme] for phoneme in phonemes]

    def decode_phonemes(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Gives the phonemes of target ids."""
        return tuple(self.target[i] for i in ids)


def read_dictionary(path: Path) -> tuple[Entries, int]:
    """Reads every word with its pronunciations; also counts the dropped words."""
    entries: Entries = {}
    dropped: set[str] = set()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields = line.split(" #", 1)[0].split()
            if len(fields) < 2:
                continue
            word = _ALTERNATIVE.sub("", fields[0])
            if not _WORD.fullmatch(word):
                dropped.add(word)
                continue
            known = entries.setdefault(word, [])
            phonemes = tuple(fields[1:])
            if phonemes not in known:
                known.append(phonemes)
    return entries, len(dropped)


def split_of(word: str) -> str:
    """Names the part of the data that a word belongs to."""
    bucket = int(hashlib.sha256(word.encode()).hexdigest(), 16) % 1000
    if bucket < 95:
        return "test"
    return "dev" if bucket < 110 else "train"


def select(entries: Entries, split: str) -> Entries:
    """Keeps the words of one part, in dictionary order."""
    return {word: said for word, said in entries.items() if split_of(word) == split}


def build_vocabulary(entries: Entries) -> Vocabulary:
    """Numbers all letters and phonemes of the dictionary in sorted order."""
    letters = sorted({letter for word in entries for letter in word})
    phonemes = sorted({p for said in entries.values() for one in said for p in one})
    return Vocabulary((*SOURCE_SPECIALS, *letters), (*TARGET_SPECIALS, *phonemes))


def encode_pairs(entries: Entries, vocabulary: Vocabulary) -> list[tuple[list[int], list[int]]]:
    """Encodes one (source, target) pair per listed pronunciation."""
    return [
        (vocabulary.encode_word(word), vocabulary.encode_phonemes(one))
        for word, said in entries.items()
        for one in said
    ]


def batches_by_length(lengths: Sequence[int], size: int, seed: int | None) -> list[list[int]]:
    """Groups item numbers into batches of one exact length, shuffled if a seed is given."""
    order = list(range(len(lengths)))
    shuffler = random.Random(seed)
    if seed is not None:
        shuffler.shuffle(order)
    groups: dict[int, list[int]] = {}
    for i in order:
        groups.setdefault(lengths[i], []).append(i)
    batches = [
        group[start : start + size]
        for _, group in sorted(groups.items())
        for start in range(0, len(group), size)
    ]
    if seed is not None:
        shuffler.shuffle(batches)
    return batches
