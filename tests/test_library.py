"""The shared library: what it exports, who its clients are, and its C interface, called as a C
program would. Knows symbols and the header; Python's results are the measure of everything else."""

from __future__ import annotations

import ctypes
import gc
import math
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from c_interface import (
    BUSY,
    CANCELLED,
    FAILED,
    INPUT,
    LIBRARY,
    OK,
    REASONS,
    TIMEOUT,
    TOO_LONG,
    VERSION,
    C,
    Options,
    Session,
    View,
    as_found,
    engine_of,
    message,
)
from test_heap import SANITIZED
from test_prompts import PROMPTS, language_model

import s2s_engine
from s2s_engine import DecodeOptions, Engine, InputError, ModelBuilder, _core

PACKAGE = Path(s2s_engine.__file__).parent
HEADER = PACKAGE / "include" / "s2s_engine.h"
if not HEADER.exists():  # a build inside of the source tree
    HEADER = PACKAGE.parent / "csrc" / "include" / "s2s_engine.h"
SOURCES = ([3], [4, 5, 6, 7, 8], [6, 3, 9, 10], [7, 7, 3])


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def tool(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- one library ---


def test_the_library_exports_what_the_header_declares_and_nothing_else() -> None:
    declared = set(re.findall(r"S2S_API[^;]*?\b(s2s_\w+)\(", without_comments(HEADER.read_text())))
    exported = {
        line.split()[-1] for line in tool("nm", "-D", "--defined-only", str(LIBRARY)).splitlines()
    }
    assert len(declared) > 10 and exported == declared


def test_both_bindings_are_clients_of_the_library() -> None:
    """They need it by name, beside them, and hold no kernel themselves."""
    from s2s_engine import capi

    name_of_a_kernel_table = b"\0portable\0"
    assert name_of_a_kernel_table in LIBRARY.read_bytes()
    for module in (_core, capi):
        dynamic = tool("readelf", "-d", str(module.__file__))
        assert re.search(r"NEEDED.*\[libs2s_engine\.so\]", dynamic)
        assert re.search(r"R(?:UN)?PATH.*\$ORIGIN", dynamic)
        assert name_of_a_kernel_table not in Path(str(module.__file__)).read_bytes()
    maps = Path("/proc/self/maps").read_text()
    assert len({line.split()[-1] for line in maps.splitlines() if "libs2s_engine" in line}) == 1


def test_a_module_of_another_build_is_refused() -> None:
    C.s2s_private_table.restype, C.s2s_private_table.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    assert C.s2s_private_table(b"0.0.0 another") is None


def fields_of(text: str, struct: str) -> list[tuple[str, str]]:
    """(type, name) of a struct's fields, in C or in Cython."""
    body = re.search(rf"struct {struct}:?\s*{{?(.*?)(?:}}|\n\n)", text, flags=re.S)
    assert body is not None
    found = re.findall(r"^\s*((?:const )?\w+\*?) (\w+);?", body[1], flags=re.M)
    return [(kind, name) for kind, name in found]


@pytest.mark.parametrize("struct, written", [("options", Options), ("hypothesis", View)])
def test_the_structs_are_the_same_in_c_cython_and_these_tests(struct: str, written: Any) -> None:
    c = fields_of(without_comments(HEADER.read_text()), f"s2s_{struct}")
    cython = fields_of((PACKAGE / "capi.pxd").read_text(), struct.capitalize())
    assert len(c) > 7 and c == cython
    assert [name for _, name in c] == [name for name, *_ in written._fields_]


def test_the_constants_are_the_same_in_c_and_cython() -> None:
    c = dict(re.findall(r"\bS2S_(\w+) = (\w+)", without_comments(HEADER.read_text())))
    cython = dict(
        re.findall(r"^    (\w+) = (\w+)$", (PACKAGE / "capi.pxd").read_text(), flags=re.M)
    )
    assert len(c) == 15 and c == cython
    assert int(c["ABI_VERSION"], 16) == C.s2s_abi_version()


@pytest.mark.parametrize("command", ["cc -std=c99", "c++ -std=c++17"])
def test_the_header_is_c_and_c_plus_plus(command: str) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"needs {command.split()[0]}")
    language = "c" if "c99" in command else "c++"
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", language, "-"]
    program = f'#include "{HEADER}"\nint main(void) {{ return (int)s2s_abi_version(); }}\n'
    done = subprocess.run([*command.split(), *flags], input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- the results of Python ---


def padded() -> Any:
    """A model whose rule does everything that a rule can do."""
    rule = {
        "prepend": [3], "append": [2], "truncate": 6, "reverse": True,
        "pad": {"to": [4, 5], "side": "left", "id": 0},
    }  # fmt: skip
    w = models.Weights(7)
    m = ModelBuilder(source=11, target=9)
    e, d = m.encoder, m.decoder
    memory, h = e.gru(e.embedding(e.tokens, w(11, 5)), w.gru(5, 6))
    e.output(memory=memory, h=h)
    h_prev = d.state("h", initial="h")
    h = d.gru_cell(d.embedding(d.token, w(9, 4)), h_prev, w.gru(4, 6))
    context, alignment = d.attention(query=h, keys="memory", values="memory")
    d.next(h=h)
    d.output(logits=d.linear([h, context], w(9, 12)), alignment=alignment)
    return m.build(source=rule, start=1, end=[2], generation={"max_length": [2, 3]})


@pytest.mark.parametrize("name", [*models.DECODERS, "padded"])
def test_c_gives_the_bits_of_python(name: str, isa: str) -> None:
    engine = Engine.load(padded() if name == "padded" else models.DECODERS[name](), isa=isa)
    session = Session(engine)
    attention = "alignment" in engine._model.graphs["decoder"].outputs
    for source in SOURCES:
        for beam in (1, 4):
            given = {"beam_size": beam, "num_hypotheses": beam}
            assert session.decode(source, attention=attention, **given) == OK, message()
            expected = engine.decode(source, return_attention=attention, **given)
            assert session.found() == as_found(expected)
        assert session.decode(source, prepared=1, max_length=4) == OK
        assert session.found() == as_found(engine.decode(source, prepared=True, max_length=4))
    assert session.decode(*SOURCES, beam_size=3) == OK
    for sentence, source in enumerate(SOURCES):
        assert session.found(sentence) == as_found(engine.decode(source, beam_size=3))


def test_a_prompt_of_a_model_without_an_encoder() -> None:
    engine = Engine.load(language_model())
    session = Session(engine)
    for prompt in PROMPTS:
        assert session.decode(prompt) == OK, message()
        assert session.found() == as_found(engine.decode(prompt))
    assert session.decode(*PROMPTS, beam_size=2) == OK
    assert session.found(2) == as_found(engine.decode(PROMPTS[2], beam_size=2))
    assert session.decode([]) == OK  # the start alone
    assert Session(Engine.load(language_model(start=None))).decode([]) == INPUT


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(beam_size=4, num_hypotheses=4, length_penalty=0.6, min_length=3),
        DecodeOptions(beam_size=3, prefix=[4], suppress_tokens=[5], no_repeat_ngram_size=2),
        DecodeOptions(beam_size=4, num_hypotheses=4, beam_groups=2, diversity_penalty=0.5),
        DecodeOptions(sampling_topk=5, seed=3, num_hypotheses=4),
        DecodeOptions(allowed_tokens=lambda ids: [3, 4, 2] if len(ids) < 4 else [2]),
        DecodeOptions(max_length="source", early_stop="opennmt", beam_size=2),
        DecodeOptions(exact=True, max_length=4),
        DecodeOptions(return_attention=True, coverage_penalty=0.3, beam_size=3),
    ],
    ids=lambda options: options.early_stop,
)
def test_an_engine_is_handed_over_with_options(options: DecodeOptions) -> None:
    engine = Engine.load(models.lstm_luong())
    session = Session(engine, options)
    for source in SOURCES[:2]:
        assert session.decode(source) == OK, message()
        assert session.found() == as_found(engine.decode(source, options=options))
        assert C.s2s_decode(session.handle, (ctypes.c_int32 * 1)(3), 1, None) == OK  # no options
        assert session.found() == as_found(engine.decode([3], options=options))


def test_vocabularies_and_versions() -> None:
    engine = engine_of(Engine.load(models.lstm_luong()))
    assert C.s2s_source_vocabulary(engine) == models.SOURCE
    assert C.s2s_target_vocabulary(engine) == models.TARGET
    C.s2s_engine_release(engine)
    C.s2s_engine_release(None)
    C.s2s_session_free(None)
    now = C.s2s_abi_version()
    assert C.s2s_check_version(now) == OK
    for other in (now + 1, now + (1 << 16), now - (1 << 16)):
        assert C.s2s_check_version(other) == VERSION
        assert f"version {other >> 16}.{other & 0xFFFF} " in message()


# --- structs of other sizes ---


def test_an_older_caller_s_structs_are_read_and_written_as_far_as_they_go() -> None:
    engine = Engine.load(models.lstm_luong())
    session = Session(engine, DecodeOptions(timeout=0.0))
    options = session.options()
    assert options.timeout == 0.0 and session.decode([3], options=options) == TIMEOUT
    # Without the last two fields, the engine's own timeout holds whatever lies behind.
    options.size, options.timeout = Options.timeout.offset, math.inf
    assert session.decode([3], options=options) == TIMEOUT
    options.size = ctypes.sizeof(Options)
    assert session.decode([3], options=options) == OK

    small = Options(timeout=7.0)
    assert C.s2s_options_init(session.handle, ctypes.byref(small), Options.timeout.offset) == OK
    assert (small.size, small.beam_size, small.timeout) == (Options.timeout.offset, 1, 7.0)
    view = View(size=View.log_prob.offset, log_prob=7.0, score=8.0)
    assert C.s2s_hypothesis_at(session.handle, 0, 0, ctypes.byref(view)) == OK
    best = engine.decode([3], options=DecodeOptions()).hypotheses[0]
    assert (view.log_prob, view.score) == (7.0, 8.0)
    assert (view.ids[: view.length], REASONS[view.finish_reason]) == (best.ids, best.finish_reason)


def test_structs_of_a_newer_caller_are_refused() -> None:
    session = Session(Engine.load(models.lstm_luong()))
    for size in (0, 3, ctypes.sizeof(Options) + 8):
        assert session.decode([3], size=size) == VERSION
        assert f"is {size}, must be 8 to {ctypes.sizeof(Options)}" in message()
        assert C.s2s_options_init(session.handle, ctypes.byref(Options()), size) == VERSION
    assert session.decode([3]) == OK
    view = View(size=ctypes.sizeof(View) + 8)
    assert C.s2s_hypothesis_at(session.handle, 0, 0, ctypes.byref(view)) == VERSION


# --- what is wrong ---


def test_a_decode_that_fails_leaves_no_results() -> None:
    session = Session(Engine.load(models.gru_plain()))
    for sources, given, code in (
        ([[3, 11]], {}, INPUT),
        ([[3] * 10_001], {}, TOO_LONG),
        ([[3]], {"beam_size": 0}, INPUT),
        ([[3]], {"size": 0}, VERSION),
    ):
        assert session.decode([3]) == OK and session.found()
        assert session.decode(*sources, **given) == code
        assert session.found() == []


def test_a_hypothesis_that_is_not_there() -> None:
    session = Session(Engine.load(models.gru_plain()))
    view = View(size=ctypes.sizeof(View))
    for sentence, index in ((0, 0), (0, 1), (1, 0), (-1, 0), (0, -1)):
        assert C.s2s_hypothesis_at(session.handle, sentence, index, ctypes.byref(view)) == INPUT
        session.decode([3])
        if (sentence, index) == (0, 0):
            continue
        assert C.s2s_hypothesis_at(session.handle, sentence, index, ctypes.byref(view)) == INPUT
    assert C.s2s_num_hypotheses(session.handle, 1) == C.s2s_num_hypotheses(session.handle, -1) == 0


def test_a_function_of_the_options_that_raises() -> None:
    def broken(ids: list[int]) -> list[int]:
        raise KeyError("no such state")

    session = Session(Engine.load(models.gru_plain()), DecodeOptions(allowed_tokens=broken))
    assert session.decode([3]) == FAILED and "no such state" in message()
    assert session.found() == []


# --- deadlines ---


def test_a_deadline_and_a_flag_end_a_decode_with_what_there_is() -> None:
    engine = Engine.load(models.lstm_luong())
    # No token ends, so a decode lasts until something ends it.
    session = Session(engine, DecodeOptions(end_tokens=[], beam_size=2, max_length=900_000))
    assert session.decode([3, 4], timeout=0.02) == TIMEOUT
    assert "timeout" in message()
    (_, _, log_prob, _, reason, _), *_ = session.found()
    assert reason == "timeout" and log_prob < 0.0

    flag = ctypes.c_int32(0)
    codes: list[int] = []

    def work() -> None:
        while not codes or codes[-1] == BUSY:  # the looks of the other thread below
            codes.append(session.decode([3, 4], cancel=ctypes.pointer(flag)))

    worker = threading.Thread(target=work)
    worker.start()
    look = session.options(timeout=0.0)
    while C.s2s_decode(session.handle, (ctypes.c_int32 * 1)(3), 1, ctypes.byref(look)) != BUSY:
        pass
    assert "one per thread" in message()
    flag.value = 1
    worker.join()
    assert codes[-1] == CANCELLED
    assert session.found()[0][4] == "cancelled"


# --- lives ---


def test_a_session_outlives_its_engine_in_python() -> None:
    engine = Engine.load(models.lstm_luong())
    expected = as_found(engine.decode([3, 4]))
    session = Session(engine)
    engine.close()
    del engine
    gc.collect()
    assert session.decode([3, 4]) == OK and session.found() == expected


@pytest.mark.skipif(SANITIZED, reason="sanitizers keep what was freed")
def test_memory_is_given_back() -> None:
    """Two hundred sessions with a warm workspace."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    engine = Engine.load(models.lstm_luong(hidden=256))
    for number in range(200):
        session = Session(engine)
        assert C.s2s_warm_up(session.handle, 50, 20, 1) == OK
        if number == 20:
            before = resident()
    assert resident() - before < 20_000_000


def test_features_cannot_be_handed_over() -> None:
    w = models.Weights(1)
    m = ModelBuilder(target=9)
    memory, h = m.encoder.gru(m.encoder.input("image", sequence=5), w.gru(5, 6))
    m.encoder.output(memory=memory, h=h)
    d = m.decoder
    h = d.gru_cell(d.embedding(d.token, w(9, 4)), d.state("h", initial="h"), w.gru(4, 6))
    d.next(h=h)
    d.output(logits=d.linear(h, w(9, 6)))
    engine = Engine.load(m.build(start=1, end=[2], generation={"max_length": 5}))
    engine.decode(features=np.zeros((3, 5), np.float32))
    with pytest.raises(InputError, match=r"image \(sequence\)"):
        engine._hand_over(None)
