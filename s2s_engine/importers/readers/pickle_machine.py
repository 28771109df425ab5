"""The machine that the opcodes of a pickle drive: stack, marks, memo, budgets. Knows how objects
are put together; calls only the constructors of its table, never what a file names."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

from .pickle_values import (
    MAX_DEPTH,
    Builder,
    Constructor,
    Global,
    Key,
    Placeholder,
    RefusedError,
    as_key,
    shown,
)

MAX_CONTAINERS = 2_000_000
MAX_INTEGER = 128  # bytes; longer integers are an attack on str() and int()
MAX_NAME = 1000
INTEGER = re.compile(rb"[+-]?[0-9]{1,300}L?")
# What repr() of a str of Python 2 is made of.
QUOTED = re.compile(rb"(?:[^\\]|\\x[0-9a-fA-F]{2}|\\[\\'\"nrt])*", re.S)
ESCAPE = re.compile(rb"\\(x..|.)", re.S)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
# Python 2's names of the same modules.
RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
STATELESS = (bool, int, float, complex, str, bytes, bytearray, tuple, list, set, frozenset, Global)


class Machine:
    """One run over one pickle. `stack` is what stands behind the last mark, `marked` the stacks
    before the marks; every opcode is one entry of `pickle_opcodes.OPCODES`."""

    def __init__(
        self,
        data: bytes,
        start: int,
        constructors: Mapping[Key, Constructor],
        builders: Mapping[Key, Builder],
        persistent: Callable[[Any], object] | None,
    ) -> None:
        self.data = data
        self.at = self.began = start
        self.opcode = "the pickle"
        self.constructors = constructors
        self.builders = builders
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.unbuilt: dict[int, list[int]] = {}  # id of a placeholder -> its places in the memo
        self.globals: dict[Key, Global] = {}
        self.containers = 0
        self.budget = 4096 + 4 * (len(data) - start)

    # --- bytes ---

    def take(self, count: int) -> bytes:
        stop = self.at + count
        if stop > len(self.data):
            left = len(self.data) - self.at
            raise RefusedError(f"{self.opcode} needs {count} bytes, {left} are left: truncated")
        taken = self.data[self.at : stop]
        self.at = stop
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> bytes:
        stop = self.data.find(b"\n", self.at)
        if stop < 0:
            raise RefusedError(f"{self.opcode} has no end of line: truncated")
        taken = self.data[self.at : stop]
        self.at = stop + 1
        return taken

    def integer(self) -> int:
        text = self.line()
        if not INTEGER.fullmatch(text):
            raise RefusedError(f"{self.opcode} holds {shown(text)}, must be at most 300 digits")
        return int(text.rstrip(b"L"))

    def long(self, size: int) -> int:
        if size > MAX_INTEGER:
            raise RefusedError(f"an integer of {size} bytes, at most {MAX_INTEGER}")
        return int.from_bytes(self.take(size), "little", signed=True)

    def float_line(self) -> float:
        text = self.line()
        try:
            return float(text[:100])
        except ValueError:
            raise RefusedError(f"FLOAT holds {shown(text)}") from None

    def float_bytes(self) -> float:
        value: float = struct.unpack(">d", self.take(8))[0]
        return value

    def old_string(self, raw: bytes) -> str | bytes:
        """Python 2's str: text where it is UTF-8, else its bytes; nothing is lost."""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def quoted(self) -> str | bytes:
        text = self.line().strip()
        if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
            raise RefusedError("STRING is not quoted")
        if not QUOTED.fullmatch(text, 1, len(text) - 1):
            raise RefusedError("STRING holds an escape that repr() does not write")
        return self.old_string(ESCAPE.sub(_unescaped, text[1:-1]))

    # --- objects ---

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise RefusedError("copies much more than the file holds: a bomb")

    def container(self) -> None:
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise RefusedError(f"more than {MAX_CONTAINERS} containers")

    def mark(self) -> None:
        if len(self.marked) >= MAX_DEPTH:
            raise RefusedError(f"more than {MAX_DEPTH} marks are open")
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        if not self.marked:
            raise RefusedError(f"{self.opcode} without MARK")
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def put(self, index: int) -> None:
        value = self.stack[-1]
        if type(value) is Placeholder and (value.module, value.name) in self.builders:
            self.unbuilt.setdefault(id(value), []).append(index)
        self.memo[index] = value

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise RefusedError(f"the memo has no entry {index}")
        self.stack.append(self.memo[index])

    def named(self, module: object, name: object) -> Global:
        if type(module) is not str or type(name) is not str:
            raise RefusedError(f"a global is named {shown(module)}, {shown(name)}: must be strings")
        if len(module) + len(name) > MAX_NAME:
            raise RefusedError(f"a global's name has more than {MAX_NAME} characters")
        key = (RENAMED.get(module, module), name)
        return self.globals.setdefault(key, Global(*key))

    def call(self, function: object, args: object) -> None:
        """Pushes what a call would have made: data if the function is known, else inert."""
        if type(args) is not tuple:
            raise RefusedError(f"{self.opcode}: the arguments are {shown(args)}, must be a tuple")
        self.container()
        if type(function) is Placeholder:  # a bound method, a partial: stays what it is
            called = Placeholder(function.module, f"{function.name[:MAX_NAME]}()", (function, args))
            self.stack.append(called)
            return
        if type(function) is not Global:
            raise RefusedError(f"{self.opcode} calls {shown(function)}")
        known = self.constructors.get((function.module, function.name))
        if known is None:
            self.stack.append(Placeholder(function.module, function.name, args))
        else:
            self.stack.append(known(self.spend, args))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is Placeholder:
            build = self.builders.get((target.module, target.name))
            if build is None:
                target.state = state
                return
            value = build(self.spend, target, state)
            self.stack[-1] = value
            for index in self.unbuilt.pop(id(target), ()):
                if self.memo[index] is target:
                    self.memo[index] = value
        elif target is None or isinstance(target, STATELESS):
            raise RefusedError(f"BUILD on {shown(target)}")
        # Attributes of dictionaries and tensors (`_metadata`, hooks) are dropped.

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is Placeholder:
            target.items.extend(items)
        else:
            raise RefusedError(f"{self.opcode} on {shown(target)}")

    def set_items(self, target: object, items: list[Any]) -> None:
        if len(items) % 2:
            raise RefusedError(f"{self.opcode} with a key that has no value")
        if type(target) is Placeholder:
            target.items.extend(zip(items[::2], items[1::2], strict=True))
            return
        if type(target) is not dict:
            raise RefusedError(f"{self.opcode} on {shown(target)}")
        keys = [as_key(key) for key in items[::2]]
        target.update(zip(keys, items[1::2], strict=True))

    def add_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is Placeholder:
            target.items.extend(items)
            return
        if type(target) is not set:
            raise RefusedError(f"ADDITEMS on {shown(target)}")
        target.update([as_key(item) for item in items])


def _unescaped(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if len(escape) == 3:
        return bytes([int(escape[1:], 16)])
    return ESCAPED.get(escape, escape)
