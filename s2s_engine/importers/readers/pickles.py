"""A reader of pickles that imports nothing and calls nothing that a file names: a loop over
opcodes. Knows containers and scalars; arrays and tensors come in by tables of constructors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ModelFormatError
from .pickle_machine import Machine
from .pickle_opcodes import OPCODES, STOP
from .pickle_values import (
    BASIC,
    Builder,
    Constructor,
    Global,
    Key,
    Placeholder,
    RefusedError,
    check_depth,
)

__all__ = ["Global", "Placeholder", "read_pickle"]

MAX_OPCODES = 10_000_000


def read_pickle(
    data: bytes,
    *,
    where: str,
    constructors: Mapping[Key, Constructor] | None = None,
    builders: Mapping[Key, Builder] | None = None,
    persistent: Callable[[Any], object] | None = None,
    start: int = 0,
) -> tuple[Any, int]:
    """The object pickled at `start`, and where the next byte is. ModelFormatError names `where`.

    constructors: globals whose calls are data, beside `BASIC`. builders: placeholders that BUILD
    turns into data. persistent: the meaning of persistent ids, none without it.
    """
    machine = Machine(data, start, {**BASIC, **(constructors or {})}, builders or {}, persistent)
    try:
        return _run(machine), machine.at
    except RefusedError as error:
        reason = str(error)
    except UnicodeDecodeError as error:
        reason = f"{machine.opcode} holds no UTF-8: {error.reason}"
    except IndexError:
        reason = f"{machine.opcode} takes from an empty stack"
    raise ModelFormatError(f"{where}: at byte {machine.began} of the pickle: {reason}")


def _run(machine: Machine) -> Any:
    data, size = machine.data, len(machine.data)
    for _ in range(MAX_OPCODES):
        machine.began = at = machine.at
        if at >= size:
            raise RefusedError("the pickle ends without STOP: truncated")
        code = data[at]
        machine.at = at + 1
        if code == STOP:
            machine.opcode = "STOP"
            result = machine.stack.pop()
            if machine.stack or machine.marked:
                raise RefusedError("STOP leaves objects on the stack")
            check_depth(result)
            return result
        entry = OPCODES.get(code)
        if entry is None:
            raise RefusedError(f"there is no opcode {code:#04x}")
        machine.opcode, step = entry
        step(machine)
    raise RefusedError(f"more than {MAX_OPCODES} opcodes")
