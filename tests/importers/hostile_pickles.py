"""Pickles that attack whoever loads them: each would create a file, or take time or memory without
end. Knows opcodes; never the readers."""

from __future__ import annotations

import pickle
import struct

Piece = bytes


def text(value: str) -> Piece:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def tuple_of(*pieces: Piece) -> Piece:
    return b"(" + b"".join(pieces) + b"t"


def name(module: str, attribute: str) -> Piece:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *args: Piece) -> Piece:
    return name(module, attribute) + tuple_of(*args) + b"R"


class Reduced:
    """What pickle itself writes for an object with a `__reduce__` of its own."""

    def __init__(self, function: object, *args: object) -> None:
        self.value = (function, args)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.value


def executing(canary: str) -> dict[str, Piece]:
    """Pickles that create the file `canary` when something runs them."""
    import functools
    import os

    shell = f"touch {canary}"
    code = f"open({canary!r}, 'w').close()"
    opened = tuple_of(text(canary), text("w"))
    system = name("os", "system")
    importer = call("builtins", "__import__", text("os"))
    array = (
        name("numpy.core.multiarray", "_reconstruct")
        + tuple_of(name("numpy", "ndarray"), b"(K\x00t", b"C\x01b")
        + b"R"
    )
    evil = call("os", "system", text(shell))
    mapped = call("builtins", "map", system, b"]" + text(shell) + b"a")
    popen = name("subprocess", "Popen")
    pieces = {
        "os.system": evil,
        "posix.system": call("posix", "system", text(shell)),
        "eval": call("builtins", "eval", text(code)),
        "exec": call("builtins", "exec", text(code)),
        "python 2 eval": call("__builtin__", "eval", text(code)),
        "open": name("builtins", "open") + opened + b"R",
        "getattr chain": call("builtins", "getattr", importer, text("system"))
        + tuple_of(text(shell))
        + b"R",
        "subprocess": call("subprocess", "Popen", text(shell), b"K\x00", b"N"),
        "torch.hub": call("torch.hub", "load", text(canary), text("model")),
        "torch.load": call("torch", "load", text(canary)),
        "runpy": call("runpy", "run_path", text(canary)),
        "numpy.load": call("numpy", "load", text(canary)),
        "pickle.loads": call("pickle", "loads", text(shell)),
        "functools.partial called": call("functools", "partial", system, text(shell)) + b")R",
        "operator.methodcaller": call("operator", "methodcaller", text("system"), text(shell))
        + tuple_of(importer)
        + b"R",
        "map in a list": call("builtins", "list", mapped),
        "map in a set": call("builtins", "set", mapped),
        "defaultdict with a factory": call("collections", "defaultdict", system)
        + text(shell) + b"Ns",
        "BUILD with __setstate__": name("builtins", "object") + b")\x81}"
        + text("__setstate__") + system + b"sb" + text(shell) + b"b",
        "BUILD on a class": name("os", "system") + b"}" + text("__call__") + b"Nsb",
        "BUILD on a module": importer + b"}" + text("environ") + b"Nsb",
        "NEWOBJ": name("subprocess", "Popen") + tuple_of(text(shell)) + b"\x81",
        "NEWOBJ_EX": b"\x80\x04" + name("subprocess", "Popen") + tuple_of(text(shell))
        + b"}" + text("shell") + b"\x88s\x92",
        "INST": b"(" + text(shell) + b"ios\nsystem\n",
        "OBJ": b"(" + system + text(shell) + b"o",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + tuple_of(text(shell)) + b"R",
        "STACK_GLOBAL with dots": text("builtins") + text("__import__.__self__.eval") + b"\x93"
        + tuple_of(text(code)) + b"R",
        "EXT1": b"\x82\x01" + tuple_of(text(shell)) + b"R",
        "EXT2": b"\x83\x01\x02" + tuple_of(text(shell)) + b"R",
        "EXT4": b"\x84\x01\x02\x03\x04" + tuple_of(text(shell)) + b"R",
        "as a key": b"}" + evil + b"K\x01s",
        "in a set": b"\x8f(" + evil + b"\x90",
        "APPEND on a placeholder": call("os", "system", text(shell)) + text(shell) + b"a",
        "_codecs.encode": call("_codecs", "encode", text(code), text("idna")),
        "numpy dtype of a call": array
        + tuple_of(b"K\x01", b"(K\x01t", evil, b"\x89", b"C\x04abcd") + b"b",
        "numpy array of objects": array + tuple_of(
            b"K\x01", b"(K\x01t",
            name("numpy", "dtype") + tuple_of(text("O8"), b"\x89", b"\x88") + b"R",
            b"\x89", b"]" + evil + b"a",
        ) + b"b",
        "numpy scalar of objects": call(
            "numpy.core.multiarray", "scalar",
            name("numpy", "dtype") + tuple_of(text("O8"), b"\x89", b"\x88") + b"R", evil,
        ),
        "copyreg._reconstructor": call(
            "copyreg", "_reconstructor", popen, name("builtins", "object"), b"N"
        ),
        "copyreg.__newobj__": call("copyreg", "__newobj__", popen, text(shell)),
        "persistent id of a call": tuple_of(
            text("storage"), evil, text("0"), text("cpu"), b"K\x01"
        ) + b"Q",
        "PERSID": b"Pstorage\n",
    }  # fmt: skip
    result = {key: piece + b"." for key, piece in pieces.items()}
    for protocol in range(6):
        bomb = Reduced(os.system, shell)
        result[f"pickled, protocol {protocol}"] = pickle.dumps({"model": [bomb]}, protocol)
    result["pickled partial"] = pickle.dumps(functools.partial(os.system, shell))
    return result


def exhausting() -> dict[str, Piece]:
    """Pickles that take memory, time or the C stack, and must be refused."""
    laughs = text("lol") + b"q\x00" + b"".join(
        b"0(" + b"h%c" % i * 10 + b"tq%c" % (i + 1) for i in range(100)
    )  # fmt: skip
    big = b"(" + b"K\x01" * 5000 + b"lq\x00"
    dictionary = name("collections", "OrderedDict")
    raw = b"B" + struct.pack("<I", 5000) + bytes(5000) + b"q\x00"
    return {
        "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep tuples": b")" + b"\x85" * 100_000 + b".",
        "deep marks": b"(" * 100_000 + b"t" * 100_000 + b".",
        "deep placeholders": name("a", "b") + b")R"
        + (b"q\x00" + name("a", "b") + b"h\x00\x85R") * 5000 + b".",
        "deep frozensets": b"(\x91" + b"q\x000(h\x00\x91" * 1000 + b".",
        "billion laughs as a key": b"}q\xff" + laughs + b"0h\xffh%cNs." % 100,
        "copies of a list": big + call("builtins", "tuple", b"h\x00") * 5000 + b".",
        "copies of pairs": b"(" + (b"K\x01K\x02\x86" * 5000) + b"lq\x00"
        + (b"0" + dictionary + b"h\x00\x85R") * 5000 + b".",
        "copies of bytes": raw + (b"0" + call("builtins", "bytearray", b"h\x00")) * 5000 + b".",
        "LONG4 of 2 GB": b"\x8b\xff\xff\xff\x7f.",
        "LONG1 of 255 bytes": b"\x8a\xff" + b"\x01" * 255 + b".",
        "megabyte of digits": b"I" + b"9" * 1_000_000 + b"\n.",
        "megabyte of digits, LONG": b"L" + b"9" * 1_000_000 + b"L\n.",
        "megabyte of digits, PUT": b"Np" + b"9" * 1_000_000 + b"\n.",
        "BINBYTES8 of an exabyte": b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
        "BINUNICODE8 of an exabyte": b"\x8d" + struct.pack("<Q", 1 << 60) + b"abc.",
        "BYTEARRAY8 of an exabyte": b"\x96" + struct.pack("<Q", 1 << 60) + b"abc.",
        "FRAME of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
        "colliding keys": b"}(" + b"".join(
            b"\x8a\x12" + ((2**61 - 1) * i << 70).to_bytes(18, "little") + b"N"
            for i in range(1, 2000)
        ) + b"u.",
        "a list as a key": b"}]Ns.",
        "a dictionary in a set": b"\x8f(}\x90.",
        "array of an exabyte": array_of(b"(\x8a\x08" + struct.pack("<q", 1 << 60) + b"t", "f4"),
        "array of negative size": array_of(b"(J\xff\xff\xff\xfft", "f4"),
        "array of too few bytes": array_of(b"(K\x02t", "f4"),
        "nested arrays of objects": b"}K\x00" + _nested_arrays() + b"s.",
        "a buffer elsewhere": b"\x80\x05\x97.",
        "protocol 9": b"\x80\x09N.",
        "unknown opcode": b"\xfe.",
        "empty": b"",
        "STOP alone": b".",
        "two on the stack": b"NN.",
        "open mark": b"(N.",
        "memo entry that is not there": b"h\x07.",
        "no MARK": b"Nt.",
        "odd dictionary": b"(Nd.",
        "call of a number": b"K\x01)R.",
        "call with a list": name("a", "b") + b"]R.",
        "global of numbers": b"K\x01K\x02\x93.",
        "global of a megabyte": b"c" + b"a" * 1_000_000 + b"\nb\n.",
        "string without quotes": b"Sabc\n.",
        "string with an escape": b"S'\\N{BULLET}'\n.",
        "text that is not UTF-8": b"X\x02\x00\x00\x00\xff\xff.",
        "float of words": b"Fone\n.",
    }  # fmt: skip


def array_of(shape: Piece, code: str, values: Piece = b"C\x04abcd") -> Piece:
    return _array(shape, code, values) + b"."


def _array(shape: Piece, code: str, values: Piece) -> Piece:
    dtype = name("numpy", "dtype") + tuple_of(text(code), b"\x89", b"\x88") + b"R"
    head = call(
        "numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b"(K\x00t", b"C\x01b"
    )
    return head + tuple_of(b"K\x01", shape, dtype, b"\x89", values) + b"b"


def _nested_arrays() -> Piece:
    inner = _array(b"(K\x01t", "O8", b"]Na")
    return _array(b"(K\x01t", "O8", b"]" + inner + b"a")
