"""What pickles hold that Python has no builtin for: names of globals, objects left unbuilt, and
the few constructors whose calls are data. Knows no opcodes, no arrays and no tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MAX_DEPTH = 1000  # CPython's picklers go no deeper
MAX_KEY = 100  # objects within one key: hashing recurses


class RefusedError(ValueError):
    """What a pickle may not say; the machine adds file and offset."""


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function that the pickle refers to; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True, repr=False)
class Placeholder:
    """An object that was not built: whose, from which arguments, and what was put into it.

    state: what BUILD would have set, mostly the `__dict__`. items: what APPENDS would have
    appended, and (key, value) for what SETITEMS would have set.
    """

    module: str
    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def __repr__(self) -> str:
        return f"<placeholder of {self.module}.{self.name}>"


# Constructors and builders say how much they copied: a memo makes copies from nothing.
Spend: TypeAlias = Callable[[int], None]
Constructor: TypeAlias = Callable[[Spend, tuple[Any, ...]], object]
Builder: TypeAlias = Callable[[Spend, Placeholder, Any], object]
Key: TypeAlias = tuple[str, str]


def shown(value: object) -> str:
    """A scalar in short, of anything else its type: repr() of hostile data may never end."""
    if isinstance(value, (str, bytes)):
        return repr(value[:60])
    if isinstance(value, Global):
        return repr(str(value)[:80])
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)[:80]
    return f"a {type(value).__name__}"


def as_key(key: object) -> object:
    """The key, if it is hashed quickly and not deeply; a tensor (old optimisers have them as keys)
    inside a placeholder, which is hashed by identity."""
    if type(key) is str:
        return key
    if hasattr(key, "dtype"):
        return Placeholder("", "key", (key,))
    todo = [key]
    for _ in range(MAX_KEY):
        item = todo.pop()
        if type(item) is tuple and len(item) < MAX_KEY:
            todo.extend(item)
        elif type(item) is int:
            if not -(1 << 63) <= item < 1 << 64:  # multiples of 2^61 - 1 have one hash
                raise RefusedError("an integer key of more than 64 bits")
        elif type(item) not in KEYS:
            raise RefusedError(f"a {type(item).__name__} is no key")
        if not todo:
            return key
    raise RefusedError(f"a key of more than {MAX_KEY} objects")


KEYS = (str, bytes, bool, float, complex, type(None), Global, Placeholder)


# --- constructors that are data ---


def _pairs(spend: Spend, args: tuple[Any, ...]) -> dict[Any, Any]:
    """dict(), OrderedDict(), Counter(): of nothing, of a dictionary, of pairs."""
    if not args:
        return {}
    if len(args) != 1 or type(args[0]) not in (dict, list, tuple):
        raise RefusedError("a dictionary is made of a dictionary or of pairs")
    spend(len(args[0]))
    if type(args[0]) is dict:
        return dict(args[0])
    result = {}
    for pair in args[0]:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise RefusedError("a dictionary is made of pairs")
        result[as_key(pair[0])] = pair[1]
    return result


def _defaultdict(spend: Spend, args: tuple[Any, ...]) -> dict[Any, Any]:
    return _pairs(spend, args[1:])


def _listed(spend: Spend, args: tuple[Any, ...]) -> Iterable[Any]:
    if not args:
        return ()
    if len(args) != 1 or type(args[0]) not in (list, tuple, set, frozenset):
        raise RefusedError("a collection is made of a list, tuple or set")
    spend(len(args[0]))
    members: Iterable[Any] = args[0]
    return members


def _members(spend: Spend, args: tuple[Any, ...]) -> Iterable[Any]:
    return [as_key(member) for member in _listed(spend, args)]


def as_bytes(spend: Spend, args: tuple[Any, ...]) -> bytes:
    """bytes(), bytearray(), _codecs.encode(): of bytes, or of text with its encoding."""
    if not args:
        return b""
    value = args[0]
    if type(value) in (bytes, bytearray) and len(args) == 1:
        spend(len(value))
        return bytes(value)
    if type(value) is not str or len(args) != 2 or type(args[1]) is not str:
        raise RefusedError("bytes are made of bytes, or of text and an encoding")
    if args[1] not in ("latin1", "latin-1"):
        raise RefusedError("bytes are made of bytes, or of text in latin1")
    spend(len(value))
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise RefusedError(f"text of bytes holds the character {value[error.start]!r}") from None


def _complex(spend: Spend, args: tuple[Any, ...]) -> complex:
    if len(args) != 2 or any(type(part) is not float for part in args):
        raise RefusedError("complex takes two floats")
    return complex(*args)


def _reconstructor(spend: Spend, args: tuple[Any, ...]) -> object:
    if len(args) != 3 or type(args[0]) is not Global:
        raise RefusedError("copyreg._reconstructor takes a class, its base and a state")
    return Placeholder(args[0].module, args[0].name, () if args[2] is None else args[2:])


def _newobj(spend: Spend, args: tuple[Any, ...]) -> object:
    if not args or type(args[0]) is not Global:
        raise RefusedError("copyreg.__newobj__ takes a class")
    spend(len(args))
    return Placeholder(args[0].module, args[0].name, args[1:])


BASIC: dict[Key, Constructor] = {
    ("builtins", "dict"): _pairs,
    ("collections", "OrderedDict"): _pairs,
    ("collections", "Counter"): _pairs,
    ("collections", "defaultdict"): _defaultdict,
    ("builtins", "list"): lambda spend, args: list(_listed(spend, args)),
    ("builtins", "tuple"): lambda spend, args: tuple(_listed(spend, args)),
    ("builtins", "set"): lambda spend, args: set(_members(spend, args)),
    ("builtins", "frozenset"): lambda spend, args: frozenset(_members(spend, args)),
    ("builtins", "bytes"): as_bytes,
    ("builtins", "bytearray"): lambda spend, args: bytearray(as_bytes(spend, args)),
    ("_codecs", "encode"): as_bytes,
    ("builtins", "complex"): _complex,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("copyreg", "__newobj__"): _newobj,
}


# --- depth ---

HOLDERS = (dict, list, tuple, set, frozenset, Placeholder)


def _children(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    if type(value) is Placeholder:
        return (value.args, value.state, value.items)
    members: Iterable[Any] = value
    return members


def check_depth(root: object) -> None:
    """Refuses what nests deeper than MAX_DEPTH; a way back into itself counts once."""
    if type(root) not in HOLDERS:
        return
    heights = {id(root): 0}
    path, tallest = [(root, iter(_children(root)))], [0]
    while path:
        node, rest = path[-1]
        for child in rest:
            if type(child) not in HOLDERS:
                continue
            height = heights.get(id(child))
            if height is None:
                heights[id(child)] = 0
                path.append((child, iter(_children(child))))
                tallest.append(0)
                break
            tallest[-1] = max(tallest[-1], height)
        else:
            path.pop()
            height = heights[id(node)] = tallest.pop() + 1
            if tallest:
                tallest[-1] = max(tallest[-1], height)
        if len(path) > MAX_DEPTH or (tallest and tallest[-1] > MAX_DEPTH):
            raise RefusedError(f"objects nest deeper than {MAX_DEPTH}")
