"""The command line: exact outputs, exit codes, and every message."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import models
import numpy as np
import pytest

import s2s_engine
from s2s_engine import Engine, _core, cli
from s2s_engine.compute_types import COMPUTE_TYPES
from s2s_engine.lines import LineForm
from s2s_engine.model import Model
from s2s_engine.self_test import attach
from s2s_engine.terminal import LEGEND, attention_map
from s2s_engine.verify import against_reference, equal_bits, random_sources

LETTERS = ("<unk>", "<s>", "</s>", "a", "b", "c", "d", "'")
SOUNDS = ("<unk>", "<s>", "</s>", "A", "B", "C", "D", "E", "F")


@dataclass(frozen=True)
class Ran:
    """Exit code and what was written."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process."""

    def run(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def process(
    *arguments: str, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs Python in another process."""
    root = str(Path(s2s_engine.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, **environment}
    return subprocess.run(
        [sys.executable, *arguments], input=stdin, capture_output=True, env=environment, check=False
    )


def saved(model: Model, folder: Path) -> Path:
    path = folder / "model.safetensors"
    model.save(path)
    return path


@pytest.fixture
def luong(tmp_path: Path) -> Path:
    return saved(models.lstm_luong(), tmp_path)


def letters_model() -> Model:
    model = models.lstm_luong(source=len(LETTERS), target=len(SOUNDS))
    return replace(model, vocabularies={"tokens": LETTERS, "target": SOUNDS}, characters=True)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A stand-in for the shipped model: letters to tokens."""
    return saved(letters_model(), tmp_path)


# --- decode ---


def test_lines_in_lines_out(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--max-length", 3, stdin=b"s1 s2\ns4\n")
    assert ran == Ran(0, "t4 t1 t4\nt6 t1 t1\n", "")


def test_a_line_gives_what_decode_gives(command: Command, luong: Path) -> None:
    lines = [f"s{k} s{(3 * k) % 11} s7" for k in range(11)]
    ran = command("decode", luong, "--beam-size", 4, stdin="\n".join(lines).encode())
    with Engine.load(luong) as engine:
        want = [" ".join(engine.decode(x.split(), beam_size=4).tokens) for x in lines]
    assert ran.out == "".join(f"{line}\n" for line in want)


def test_a_file_and_stdin_give_the_same(command: Command, luong: Path, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"s1 s2\ns4\n")
    ran = command("decode", luong, tmp_path / "lines")
    assert ran.code == 0
    assert ran == command("decode", luong, "-", stdin=b"s1 s2\ns4\n")


def test_an_empty_line_gives_an_empty_line(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--max-length", 1, stdin=b"\ns1\n  \n\n")
    assert ran == Ran(0, "\nt4\n\n\n", "")


def test_no_lines_give_nothing(command: Command, luong: Path) -> None:
    assert command("decode", luong) == Ran(0, "", "")


def test_the_last_line_needs_no_end_and_carriage_returns_go(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--max-length", 1, stdin=b"s1\r\n\r\ns4")
    assert ran == Ran(0, "t4\n\nt6\n", "")


def test_several_hypotheses_are_a_line_each(command: Command, luong: Path) -> None:
    options = ("--beam-size", 4, "--num-hypotheses", 2, "--max-length", 2)
    ran = command("decode", luong, *options, stdin=b"s1 s2\n\ns4\n")
    with Engine.load(luong) as engine:
        want = [
            "".join(
                f"{h.score:.6f}\t{' '.join(h.tokens)}\n"
                for h in engine.decode(x, beam_size=4, num_hypotheses=2, max_length=2).hypotheses
            )
            for x in (["s1", "s2"], ["s4"])
        ]
    assert ran == Ran(0, f"{want[0]}\n{want[1]}", "")
    assert ran.out.count("\n") == 5


def test_a_penalty_and_a_rule_are_those_of_the_engine(command: Command, luong: Path) -> None:
    options = {"beam_size": 4, "num_hypotheses": 4, "length_penalty": 1.5, "early_stop": "marian"}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    ran = command("decode", luong, *flags, stdin=b"s1 s2\n")
    with Engine.load(luong) as engine:
        want = [f"{h.score:.6f}\t{' '.join(h.tokens)}\n"
                for h in engine.decode(["s1", "s2"], **options).hypotheses]  # fmt: skip
        plain = engine.decode(["s1", "s2"], beam_size=4, num_hypotheses=4).hypotheses
    assert ran == Ran(0, "".join(want), "")
    assert f"{plain[0].score:.6f}" not in ran.out
    assert command("decode", luong, "--early-stop", "never") == Ran(
        2, "", "s2s-engine: early_stop is 'never', must be one of exact, patience, opennmt, "
        "fairseq, marian, joeynmt\n")  # fmt: skip


def test_every_option_of_the_search_can_be_given_by_name(command: Command, luong: Path) -> None:
    options = {"prefix": ["t4"], "suppress_tokens": [3], "repetition_penalty": 1.5,
               "sampling_topk": 0, "seed": 3, "num_hypotheses": 2}  # fmt: skip
    flags = [f"--option={name}={json.dumps(value)}" for name, value in options.items()]
    ran = command("decode", luong, *flags, "--max-length=6", stdin=b"s1 s2\n")
    with Engine.load(luong) as engine:
        found = engine.decode(["s1", "s2"], max_length=6, **options).hypotheses
        want = [f"{h.score:.6f}\t{' '.join(h.tokens)}\n" for h in found]
    assert ran == Ran(0, "".join(want), "")
    # What is no JSON is a text, and an option of its own comes first.
    named = command("decode", luong, "--option=early_stop=marian", "--option=max_length=3",
                    "--max-length=1", stdin=b"s1 s2\n")  # fmt: skip
    assert named.code == 0 and len(named.out.split()) <= 1
    for text, message in (
        ("beam", "Invalid value: --option is 'beam', must be NAME=VALUE (see s2s-engine --help)"),
        ("beam_groups=3", "beam_groups is 3, must divide beam_size, which is 1"),
        ("prefix=t4", "prefix is 't4', must be a list of tokens or ids"),
    ):
        failed = command("decode", luong, f"--option={text}")
        assert failed == Ran(2, "", f"s2s-engine: {message}\n")


def test_json_holds_the_whole_result(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--json", "--attention", stdin=b"s1 s2\n\n")
    first, second = map(json.loads, ran.out.splitlines())
    with Engine.load(luong) as engine:
        best = engine.decode(["s1", "s2"], return_attention=True).hypotheses[0]
    assert first["line"] == 1 and first["source"] == ["s1", "s2", "s2"]
    (hypothesis,) = first["hypotheses"]
    assert hypothesis["tokens"] == best.tokens and hypothesis["ids"] == best.ids
    assert hypothesis["score"] == best.score and hypothesis["log_prob"] == best.log_prob
    assert hypothesis["finish_reason"] == best.finish_reason
    assert hypothesis["token_log_probs"] == best.token_log_probs.tolist()
    assert best.attention is not None and hypothesis["attention"] == best.attention.tolist()
    assert second == {"line": 2, "source": [], "hypotheses": []}


def test_json_has_no_attention_unless_asked(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--json", stdin=b"s1\n")
    assert "attention" not in json.loads(ran.out)["hypotheses"][0]


def test_characters_are_tokens_where_the_model_says_so(command: Command, letters: Path) -> None:
    ran = command("decode", letters, stdin=b"ab'\n")
    with Engine.load(letters) as engine:
        assert ran == Ran(0, " ".join(engine.decode(list("ab'")).tokens) + "\n", "")


def test_ids_where_there_is_no_vocabulary(command: Command, tmp_path: Path) -> None:
    path = saved(models.no_recurrence(), tmp_path)
    with Engine.load(path) as engine:
        want = " ".join(engine.decode([4, 5, 6]).tokens)
    assert command("decode", path, stdin=b"4 5 6\n") == Ran(0, f"{want}\n", "")


def test_labels_of_a_tagger(command: Command, tmp_path: Path) -> None:
    path = saved(models.tagger(), tmp_path)
    with Engine.load(path) as engine:
        want = " ".join(engine.decode(["s4", "s5"]).tokens)
    assert command("decode", path, stdin=b"s4 s5\n") == Ran(0, f"{want}\n", "")


@pytest.mark.parametrize(("text", "length"), [("2", 2), ("source", 3), ("2,1", 7)])
def test_max_length_has_three_forms(
    text: str, length: int, command: Command, tmp_path: Path
) -> None:
    path = saved(replace(models.lstm_luong(), end=()), tmp_path)
    ran = command("decode", path, "--max-length", text, stdin=b"s1 s2\n")
    assert len(ran.out.split()) == length


@pytest.mark.parametrize("options", [("--batch-size", 1), ("--batch-size", 3, "--threads", 2)])
def test_chunks_do_not_change_the_output(
    options: tuple[object, ...], command: Command, luong: Path
) -> None:
    lines = "".join(f"s{k % 11} s{k % 7}\n" * (k % 2) + "\n" for k in range(40)).encode()
    assert command("decode", luong, *options, stdin=lines) == command("decode", luong, stdin=lines)


def test_every_isa_gives_the_same_bytes(command: Command, luong: Path) -> None:
    options = ("--json", "--beam-size", 3, "--num-hypotheses", 3)
    outs = {
        command("decode", luong, *options, "--isa", isa, stdin=b"s1 s2 s3\n").out
        for isa in _core.available_isas()
    }
    assert len(outs) == 1


def test_a_long_file_streams(luong: Path) -> None:
    root = str(Path(s2s_engine.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "s2s_engine", "decode", str(luong), "--batch-size", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        for _ in range(3):
            running.stdin.write(b"s1\n")
            running.stdin.flush()
            assert running.stdout.readline().startswith(b"t")


def test_a_reader_that_goes_away_is_no_error(luong: Path) -> None:
    root = str(Path(s2s_engine.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "s2s_engine", "decode", str(luong), "--batch-size", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as running:
        assert running.stdout is not None
        running.stdout.close()
        running.stdout = None
        _, errors = running.communicate(b"s1\n" * 100)
    assert running.returncode == 0 and errors == b""


# --- input errors ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"s1 x9", "token 1 of the input is 'x9', not one of the 11 strings of the source "
                   "vocabulary, which has no unknown token"),
        (b"s1 \xff", "is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 3: invalid "
                     "start byte"),
        (b"s1 " * 10_001, "the input has 10001 tokens, more than max_input_length, which is 10000: "
                          "split it, or load with a larger max_input_length"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_once_the_lines_before_it_are_written(
    line: bytes, message: str, command: Command, luong: Path
) -> None:
    ran = command("decode", luong, "--max-length", 1, stdin=b"s1\n\ns4\n" + line + b"\ns1\n")
    assert ran == Ran(1, "t4\n\nt6\n", f"s2s-engine: line 4: {message}\n")


def test_line_numbers_go_on_over_chunks(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--batch-size", 2, stdin=b"s1\n" * 6 + b"s99\n")
    assert ran.err.startswith("s2s-engine: line 7: token 0 of the input is 's99'")


@pytest.mark.parametrize("word", ["x", "-1", "1.5", "\u0663", "9" * 30])
def test_a_word_that_is_no_id(word: str, command: Command, tmp_path: Path) -> None:
    path = saved(models.no_recurrence(), tmp_path)
    assert command("decode", path, stdin=f"1 {word}\n".encode()) == Ran(
        1,
        "",
        f"s2s-engine: line 1: token 1 of the input is {word!r}, must be an id: the model has no "
        "source vocabulary\n",
    )


def test_models_of_features_read_no_lines(command: Command, tmp_path: Path) -> None:
    path = saved(models.captioner(), tmp_path)
    assert command("decode", path, stdin=b"1\n") == Ran(
        1,
        "",
        "s2s-engine: lines are for models with one input of tokens; this one's inputs are image "
        "(vector[7]): use s2s_engine.Engine in Python\n",
    )


def test_attention_needs_an_alignment(command: Command, tmp_path: Path) -> None:
    path = saved(models.gru_plain(), tmp_path)
    assert command("decode", path, "--json", "--attention") == Ran(
        1, "", f"s2s-engine: {path}: --attention, but this model gives no alignment\n"
    )


@pytest.mark.parametrize("name", ["decode", "inspect", "verify"])
def test_a_file_that_is_not_there(name: str, command: Command) -> None:
    ran = command(name, "/no/such/model")
    assert ran == Ran(1, "", "s2s-engine: /no/such/model: No such file or directory\n")


def test_lines_that_are_not_there(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "/no/such/lines")
    assert ran == Ran(1, "", "s2s-engine: /no/such/lines: No such file or directory\n")


@pytest.mark.parametrize("name", ["decode", "inspect", "verify"])
def test_a_file_that_is_no_model(name: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    assert command(name, path) == Ran(
        1, "", f"s2s-engine: {path}: the file has 1 bytes, too few for a safetensors file\n"
    )


@pytest.mark.parametrize("name", ["decode", "verify"])
def test_a_damaged_file(name: str, command: Command, luong: Path) -> None:
    data = bytearray(luong.read_bytes())
    data[-1] ^= 1
    luong.write_bytes(data)
    ran = command(name, luong)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"s2s-engine: {luong}: the file's SHA-256 is ")
    assert ran.err.count("\n") == 1


# --- usage errors ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing command."),
        (("transmute",), "No such command 'transmute'."),
        (("plot", "m"), "Missing argument 'TOKENS'."),
        (("plot", "m", "a"), "Missing option '--output'"),
        (("plot", "m", "a", "-o", "x.gif"), "-o is 'x.gif', must end in .pdf, .png, .svg"),
        (("decode",), "Missing argument 'MODEL'."),
        (("decode", "m", "--nope"), "No such option: --nope"),
        (("decode", "m", "--attention"), "--attention is for --json: a line has no place"),
        (("decode", "m", "--max-length", "x"), "--max-length is 'x', must be a number, 'source',"),
        (("decode", "m", "--beam-size", "0"), "'--beam-size'"),
        (("decode", "m", "--threads", "x"), "'--threads'"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], message: str, command: Command) -> None:
    ran = command(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("s2s-engine: ") and message in ran.err
    assert ran.err.endswith(" (see s2s-engine --help)\n") and ran.err.count("\n") == 1


def test_options_that_do_not_fit_each_other(command: Command, luong: Path) -> None:
    assert command("decode", luong, "--num-hypotheses", 2) == Ran(
        2, "", "s2s-engine: num_hypotheses is 2, must be at most beam_size, which is 1\n"
    )


def test_compute_types(command: Command, luong: Path) -> None:
    lines = b"s1 s2 s3\ns4\n"
    for compute_type in COMPUTE_TYPES:
        ran = command("decode", luong, "--json", "--compute-type", compute_type, stdin=lines)
        assert ran.code == 0
        if compute_type == "auto":
            continue
        with Engine.load(luong, compute_type=compute_type) as engine:
            for line, x in zip(ran.out.splitlines(), [["s1", "s2", "s3"], ["s4"]], strict=True):
                (best,) = json.loads(line)["hypotheses"]
                assert best["log_prob"] == engine.decode(x).hypotheses[0].log_prob
    ran = command("decode", luong, "--compute-type", "f8")
    assert (ran.code, ran.out) == (2, "") and "--compute-type is 'f8'" in ran.err


def test_an_unknown_isa(command: Command, luong: Path) -> None:
    ran = command("decode", luong, "--isa", "mmx")
    assert (ran.code, ran.out) == (2, "")
    assert "'mmx'" in ran.err and "portable" in ran.err and ran.err.count("\n") == 1


def test_version(command: Command) -> None:
    assert command("--version") == Ran(0, f"{s2s_engine.__version__}\n", "")


def test_help_lists_the_commands(command: Command) -> None:
    ran = command("--help")
    assert ran.code == 0 and ran.err == ""
    names = ("decode", "demo", "inspect", "plot", "verify")
    assert all(f"\n  {name} " in ran.out for name in names)


# --- the process ---


def test_python_m_runs_the_command(luong: Path) -> None:
    arguments = ("-m", "s2s_engine", "decode", str(luong), "--max-length", "1")
    ran = process(*arguments, stdin=b"s1\n", LC_ALL="C")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"t4\n", b"")


def test_without_typer_one_line_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['typer'] = None; from s2s_engine.__main__ import main; "
        "sys.exit(main())"
    )
    ran = process("-c", code)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.stderr == (
        b's2s-engine: the command line needs typer: pip install "s2s_engine[cli]"\n'
    )


def test_importing_the_package_imports_no_command_line() -> None:
    code = (
        "import sys, s2s_engine; "
        "print([m for m in ('typer', 'click', 'rich', 's2s_engine.cli') if m in sys.modules])"
    )
    assert process("-c", code).stdout.strip() == b"[]"


# --- demo ---


def test_the_demo_is_scores_and_a_map(command: Command, letters: Path) -> None:
    ran = command("demo", "Ab", "--model", letters)
    with Engine.load(letters) as engine:
        result = engine.decode(["a", "b"], beam_size=5, num_hypotheses=3, return_attention=True)
    best = result.hypotheses[0]
    assert best.attention is not None
    rows = [*best.tokens, *(["</s>"] if best.finish_reason == "eos" else [])]
    drawn = attention_map(best.attention, ["a", "b", "</s>"], rows)
    assert ran == Ran(
        0,
        "ab\n"
        + "".join(
            f"{h.score:10.4f}  {' '.join(h.tokens)}".rstrip() + "\n" for h in result.hypotheses
        )
        + "\n"
        + "".join(f"    {line}".rstrip() + "\n" for line in drawn.split("\n"))
        + f"\nattention: {LEGEND}\n",
        "",
    )


def test_the_demo_gives_the_same_bytes_on_every_isa(letters: Path) -> None:
    arguments = ("-m", "s2s_engine", "demo", "abba", "cad'", "--model", str(letters))
    outs = {process(*arguments, S2S_ISA=isa).stdout for isa in _core.available_isas()}
    assert len(outs) == 1 and b"abba\n" in outs.pop()


def test_the_demo_names_an_unknown_letter_and_decodes_nothing(
    command: Command, letters: Path
) -> None:
    assert command("demo", "ab", "añb", "--model", letters) == Ran(
        1, "", "s2s-engine: 'ñ' of 'añb' is unknown to the model; it knows ' a b c d\n"
    )


def test_the_demo_of_an_empty_word(command: Command, letters: Path) -> None:
    assert command("demo", "", "--model", letters) == Ran(
        1, "", "s2s-engine: an empty word: give at least one letter\n"
    )


def test_the_demo_without_its_model(command: Command) -> None:
    assert command("demo", "--model", "/no/model") == Ran(
        1,
        "",
        "s2s-engine: the demo model is not part of this installation: no file /no/model\n",
    )


def test_the_demo_needs_letters_and_tokens(command: Command, tmp_path: Path) -> None:
    assert command("demo", "--model", saved(models.classifier(), tmp_path)) == Ran(
        1, "", "s2s-engine: the demo needs a model from letters to tokens, with vocabularies\n"
    )


def test_a_map_of_a_known_matrix() -> None:
    weights = np.array([[1, 0, 0], [0.04, 0.3, 0.66], [0.05, 0.25, 0.5], [0, 0, 0.75]], np.float32)
    lines = attention_map(weights, ["a", "b", "</s>"], ["OW1", "N", "AH0", "F"]).split("\n")
    assert lines == [
        "    a  b  </s>",
        "OW1 ██",
        "  N    ▒▒ ▓▓▓▓",
        "AH0 ░░ ▒▒ ▓▓▓▓",
        "  F       ████",
    ]


def test_labels_of_a_map_are_cut_escaped_and_measured() -> None:
    weights = np.ones((1, 3), np.float32)
    assert attention_map(weights, ["語語", "\x1b", "abcdefghijklmn"], ["x"]) == (
        "  語語 \\x1b abcdefghijk…\n"
        "x ████ ████ ████████████"
    )  # fmt: skip


def test_a_map_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weights has shape \(1, 2\), must be \(2, 1\)"):
        attention_map(np.ones((1, 2), np.float32), ["a"], ["b", "c"])


# --- inspect, verify ---


def test_inspect_prints_the_listing(command: Command, luong: Path) -> None:
    ran = command("inspect", luong)
    assert ran.code == 0 and ran.err == ""
    assert ran.out.startswith("model.safetensors: format 1, ")
    assert json.loads(command("inspect", luong, "--json").out)["parameters"] == 1525


@pytest.mark.parametrize("name", [*models.DECODERS, *models.LABELLERS])
def test_verify_passes(name: str, command: Command, tmp_path: Path) -> None:
    path = saved(attach({**models.DECODERS, **models.LABELLERS}[name]()), tmp_path)
    ran = command("verify", path)
    isas = _core.available_isas()
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[0] for line in lines] == [
        "digest", *["self-test"] * len(isas), *["reference"] * len(isas), "equal",
    ]  # fmt: skip
    assert all(line.endswith(": ok") for line in lines)


def test_verify_of_features_and_no_self_test(command: Command, tmp_path: Path) -> None:
    ran = command("verify", saved(models.captioner(), tmp_path), "--seed", 3)
    assert ran.code == 0 and "the file has none: ok\n" in ran.out


def test_verify_fails_where_the_self_test_does(command: Command, tmp_path: Path) -> None:
    model = attach(models.gru_plain())
    assert model.self_test is not None
    wrong = replace(model.self_test, log_probs=tuple(p - 1 for p in model.self_test.log_probs))
    path = saved(model.with_self_test(wrong), tmp_path)
    ran = command("verify", path)
    assert ran.code == 1 and ran.err == f"s2s-engine: {path}: verification failed\n"
    assert "differ by 1.0e+00, allowed 1.0e-04: FAILED\n" in ran.out


def changed(model: Model, tensor: str) -> Model:
    weights = model.tensors[tensor] + np.float32(0.25)
    return replace(model, tensors={**model.tensors, tensor: weights})


def test_verify_names_the_encoder_output_that_differs() -> None:
    model = models.lstm_luong()
    reference = changed(model, "encoder.linear_3.weight").reference()
    found = against_reference(model, reference, random_sources(model, 0), "portable")
    assert not found.passed
    assert found.text.startswith("input 0 (tokens (1,)): encoder output 'keys' differs by ")


def test_verify_says_when_the_decoder_differs_first() -> None:
    model = models.lstm_luong()
    reference = changed(model, "decoder.linear_2.weight").reference()
    found = against_reference(model, reference, random_sources(model, 0), "portable")
    assert not found.passed
    assert "the encoder agrees, but the decoder's logits differ from step 0 on" in found.text


def test_verify_compares_searches() -> None:
    model = models.lstm_luong()
    # The same values, another end: only the search can differ.
    reference = replace(model, end=(4,)).reference()
    found = against_reference(model, reference, random_sources(model, 0), "portable")
    assert not found.passed and "the core gives" in found.text


def test_equal_bits_are_of_all_isas() -> None:
    model, isas = models.gru_additive(), _core.available_isas()
    found = equal_bits(model, random_sources(model, 0), isas)
    assert found.passed and found.text == ", ".join(isas)


def test_random_inputs_stay_within_the_model() -> None:
    model = models.gru_positions(bound=4, steps=3)
    sources = random_sources(model, 0)
    assert [len(source["tokens"]) for source in sources] == [1, 2, 3]
    assert against_reference(model, model.reference(), sources, "portable").passed


def test_a_character_line_keeps_its_spaces() -> None:
    assert LineForm(characters=True).read(b" a b\r\n") == [" ", "a", " ", "b"]
