"""The opcodes of pickle protocols 0 to 5, as steps of `pickle_machine.Machine`. Knows each opcode's
operands and its effect on the stack; what globals mean, the machine knows."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any, TypeAlias

from .pickle_machine import Machine
from .pickle_values import Placeholder, RefusedError, as_key, shown

STOP = ord(".")
Step: TypeAlias = Callable[[Machine], None]


def _proto(m: Machine) -> None:
    version = m.number(1)
    if version > 5:
        raise RefusedError(f"protocol {version}, at most 5")


def _frame(m: Machine) -> None:
    size, left = m.number(8), len(m.data) - m.at
    if size > left:
        raise RefusedError(f"FRAME has {size} bytes, {left} are left: truncated")


def _push(value: Callable[[Machine], Any]) -> Step:
    def step(m: Machine) -> None:
        m.stack.append(value(m))

    return step


def _fresh(make: Callable[[], Any]) -> Step:
    def step(m: Machine) -> None:
        m.container()
        m.stack.append(make())

    return step


def _text(size: int) -> Step:
    return _push(lambda m: m.take(m.number(size)).decode("utf-8", "surrogatepass"))


def _raw(size: int) -> Step:
    return _push(lambda m: m.take(m.number(size)))


def _old(size: int) -> Step:
    return _push(lambda m: m.old_string(m.take(m.number(size))))


def _signed(m: Machine) -> int:
    return int.from_bytes(m.take(4), "little", signed=True)


def _int(m: Machine) -> None:
    # Protocol 0 writes True and False as integers with a zero before them.
    word = m.data[m.at : m.at + 3]
    if word in (b"00\n", b"01\n"):
        m.at += 3
        m.stack.append(word == b"01\n")
    else:
        m.stack.append(m.integer())


def _unicode(m: Machine) -> str:
    return codecs.raw_unicode_escape_decode(m.line())[0]


def _tuple(size: int) -> Step:
    def step(m: Machine) -> None:
        m.container()
        m.stack[len(m.stack) - size :] = [tuple(_top(m, size))]

    return step


def _top(m: Machine, size: int) -> list[Any]:
    if len(m.stack) < size:
        raise IndexError
    return m.stack[len(m.stack) - size :]


def _tuple_of_marked(m: Machine) -> None:
    m.container()
    items = m.since_mark()
    m.stack.append(tuple(items))


def _list(m: Machine) -> None:
    m.container()
    items = m.since_mark()
    m.stack.append(items)


def _dict(m: Machine) -> None:
    m.container()
    items = m.since_mark()
    result: dict[Any, Any] = {}
    m.set_items(result, items)
    m.stack.append(result)


def _frozenset(m: Machine) -> None:
    m.container()
    items = m.since_mark()
    m.stack.append(frozenset(as_key(item) for item in items))


def _append(m: Machine) -> None:
    m.append([m.stack.pop()])


def _appends(m: Machine) -> None:
    m.append(m.since_mark())


def _setitem(m: Machine) -> None:
    value = m.stack.pop()
    key = m.stack.pop()
    m.set_items(m.stack[-1], [key, value])


def _setitems(m: Machine) -> None:
    items = m.since_mark()
    m.set_items(m.stack[-1], items)


def _additems(m: Machine) -> None:
    m.add_items(m.since_mark())


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _name(m: Machine) -> str:
    return m.line().decode()


def _global(m: Machine) -> None:
    module = _name(m)
    m.stack.append(m.named(module, _name(m)))


def _stack_global(m: Machine) -> None:
    name = m.stack.pop()
    m.stack.append(m.named(m.stack.pop(), name))


def _extension(size: int) -> Step:
    # Codes mean what a program registered; no file says what.
    return _push(lambda m: m.named("copyreg", f"extension {m.number(size)}"))


def _reduce(m: Machine) -> None:
    args = m.stack.pop()
    m.call(m.stack.pop(), args)


def _newobj_ex(m: Machine) -> None:
    options = m.stack.pop()
    args = m.stack.pop()
    if type(options) is not dict:
        raise RefusedError(f"NEWOBJ_EX: the options are {shown(options)}, must be a dictionary")
    m.call(m.stack.pop(), args)
    made = m.stack[-1]
    if options:
        if type(made) is not Placeholder:
            raise RefusedError("NEWOBJ_EX: known constructors take no options")
        made.args = (made.args, options)  # not joined: that would copy


def _inst(m: Machine) -> None:
    module = _name(m)
    function = m.named(module, _name(m))
    items = m.since_mark()
    m.call(function, tuple(items))


def _obj(m: Machine) -> None:
    items = m.since_mark()
    if not items:
        raise IndexError
    m.call(items[0], tuple(items[1:]))


def _persistent(m: Machine, name: Any) -> None:
    if m.persistent is None:
        raise RefusedError(f"persistent id {shown(name)}: this kind of file has none")
    m.stack.append(m.persistent(name))


def _persistent_line(m: Machine) -> None:
    _persistent(m, _name(m))


def _persistent_object(m: Machine) -> None:
    _persistent(m, m.stack.pop())


def _no_buffer(m: Machine) -> None:
    raise RefusedError("NEXT_BUFFER: out-of-band buffers are not in the file")


def _nothing(m: Machine) -> None:
    """READONLY_BUFFER: what the top holds is read-only anyway."""


def _bytearray(m: Machine) -> bytearray:
    return bytearray(m.take(m.number(8)))


OPCODES: dict[int, tuple[str, Step]] = {
    0x80: ("PROTO", _proto),
    0x95: ("FRAME", _frame),
    ord("("): ("MARK", Machine.mark),
    ord("0"): ("POP", _pop),
    ord("1"): ("POP_MARK", lambda m: m.since_mark().clear()),
    ord("2"): ("DUP", _push(lambda m: m.stack[-1])),
    # scalars
    ord("N"): ("NONE", _push(lambda m: None)),
    0x88: ("NEWTRUE", _push(lambda m: True)),
    0x89: ("NEWFALSE", _push(lambda m: False)),
    ord("I"): ("INT", _int),
    ord("L"): ("LONG", _push(Machine.integer)),
    ord("J"): ("BININT", _push(_signed)),
    ord("K"): ("BININT1", _push(lambda m: m.number(1))),
    ord("M"): ("BININT2", _push(lambda m: m.number(2))),
    0x8A: ("LONG1", _push(lambda m: m.long(m.number(1)))),
    0x8B: ("LONG4", _push(lambda m: m.long(m.number(4)))),
    ord("F"): ("FLOAT", _push(Machine.float_line)),
    ord("G"): ("BINFLOAT", _push(Machine.float_bytes)),
    # text and bytes
    ord("S"): ("STRING", _push(Machine.quoted)),
    ord("T"): ("BINSTRING", _old(4)),
    ord("U"): ("SHORT_BINSTRING", _old(1)),
    ord("V"): ("UNICODE", _push(_unicode)),
    ord("X"): ("BINUNICODE", _text(4)),
    0x8C: ("SHORT_BINUNICODE", _text(1)),
    0x8D: ("BINUNICODE8", _text(8)),
    ord("B"): ("BINBYTES", _raw(4)),
    ord("C"): ("SHORT_BINBYTES", _raw(1)),
    0x8E: ("BINBYTES8", _raw(8)),
    0x96: ("BYTEARRAY8", _push(_bytearray)),
    0x97: ("NEXT_BUFFER", _no_buffer),
    0x98: ("READONLY_BUFFER", _nothing),
    # containers
    ord(")"): ("EMPTY_TUPLE", _push(lambda m: ())),
    0x85: ("TUPLE1", _tuple(1)),
    0x86: ("TUPLE2", _tuple(2)),
    0x87: ("TUPLE3", _tuple(3)),
    ord("t"): ("TUPLE", _tuple_of_marked),
    ord("]"): ("EMPTY_LIST", _fresh(list)),
    ord("l"): ("LIST", _list),
    ord("a"): ("APPEND", _append),
    ord("e"): ("APPENDS", _appends),
    ord("}"): ("EMPTY_DICT", _fresh(dict)),
    ord("d"): ("DICT", _dict),
    ord("s"): ("SETITEM", _setitem),
    ord("u"): ("SETITEMS", _setitems),
    0x8F: ("EMPTY_SET", _fresh(set)),
    0x90: ("ADDITEMS", _additems),
    0x91: ("FROZENSET", _frozenset),
    # memo
    ord("p"): ("PUT", lambda m: m.put(m.integer())),
    ord("q"): ("BINPUT", lambda m: m.put(m.number(1))),
    ord("r"): ("LONG_BINPUT", lambda m: m.put(m.number(4))),
    0x94: ("MEMOIZE", lambda m: m.put(len(m.memo))),
    ord("g"): ("GET", lambda m: m.get(m.integer())),
    ord("h"): ("BINGET", lambda m: m.get(m.number(1))),
    ord("j"): ("LONG_BINGET", lambda m: m.get(m.number(4))),
    # what would run code elsewhere
    ord("c"): ("GLOBAL", _global),
    0x93: ("STACK_GLOBAL", _stack_global),
    0x82: ("EXT1", _extension(1)),
    0x83: ("EXT2", _extension(2)),
    0x84: ("EXT4", _extension(4)),
    ord("R"): ("REDUCE", _reduce),
    0x81: ("NEWOBJ", _reduce),
    0x92: ("NEWOBJ_EX", _newobj_ex),
    ord("i"): ("INST", _inst),
    ord("o"): ("OBJ", _obj),
    ord("b"): ("BUILD", Machine.build),
    ord("P"): ("PERSID", _persistent_line),
    ord("Q"): ("BINPERSID", _persistent_object),
}
