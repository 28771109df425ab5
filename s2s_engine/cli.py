"""The command line: arguments to calls, errors to one line and an exit code. Knows typer, files and
terminals; never how a model is decoded, checked or drawn."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeAlias, cast

import typer

from . import __version__, listing
from .bench.command import bench
from .compute_types import COMPUTE_TYPES
from .demo import demo_model
from .demo_command import WORDS, rows_of, show
from .engine import Engine
from .errors import InputError, S2SError, UnsupportedIsaError
from .format import STORAGES, read, read_header, read_with_digest
from .lines import LineError, LineForm, decode_lines
from .options import DecodeOptions
from .plot import FORMATS, save
from .plot import attention as plotted
from .search_rules import PRESETS
from .verify import verify as verified

OK, INPUT, USAGE, INTERRUPTED = 0, 1, 2, 130

# What a command does once its arguments are read; it returns the exit code. Typer only parses: its
# own handling of errors and broken pipes never sees a command run.
Action: TypeAlias = Callable[[], int]
# The base of every parser error: typer's own, or click's before typer 0.29.
_UsageError = cast(type[Exception], typer.BadParameter.__base__)

app = typer.Typer(
    name="s2s-engine",
    help="Runs recurrent sequence-to-sequence models on CPUs.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command()(bench)
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model file.")]


def run(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code is 0, 1 (input), 2 (usage) or 130 (interrupted)."""
    _use_utf8()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who read stdout has gone and wants no more; the interpreter's last flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _run(arguments: Sequence[str]) -> int:
    try:
        action: Action | int = app(list(arguments), prog_name="s2s-engine", standalone_mode=False)
        return action() if callable(action) else int(action or OK)
    except _UsageError as error:
        return _failed(f"{cast(Any, error).format_message()} (see s2s-engine --help)", USAGE)
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except UnsupportedIsaError as error:
        return _failed(str(error), USAGE)
    except (S2SError, LineError, NotImplementedError) as error:
        return _failed(str(error), INPUT)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _failed(f"{where}{error.strerror or error}", INPUT)


# --- the commands ---


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def decode(
    model: ModelArgument,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Lines; - is stdin.")] = "-",
    beam_size: Annotated[int | None, typer.Option(min=1, help="1 is greedy.")] = None,
    num_hypotheses: Annotated[int | None, typer.Option(min=1, help="At most the beam.")] = None,
    max_length: Annotated[
        str | None, typer.Option(help="A number, 'source', or A,B for A x source length + B.")
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Scores are divided by length to this power.")
    ] = None,
    early_stop: Annotated[
        str | None, typer.Option(help=f"The rule of the search: {', '.join(PRESETS)}.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any other of docs/search.md, JSON; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object per line.")] = False,
    attention: Annotated[bool, typer.Option("--attention", help="Weights; with --json.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="The most that work at once.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Lines that share a step.")] = 64,
    isa: Annotated[str | None, typer.Option(help="Instruction set; else S2S_ISA.")] = None,
    compute_type: Annotated[str, typer.Option(help="Or bfloat16, int8, auto.")] = "float32",
) -> Action:
    """Lines in, lines out. Options not given are the model's, then the engine's."""
    if compute_type not in COMPUTE_TYPES:
        raise typer.BadParameter(f"--compute-type is {compute_type!r}, must be of {COMPUTE_TYPES}")
    if attention and not as_json:
        raise typer.BadParameter("--attention is for --json: a line has no place for weights")
    given: dict[str, Any] = {
        "beam_size": beam_size,
        "num_hypotheses": num_hypotheses,
        "max_length": None if max_length is None else _max_length(max_length),
        "length_penalty": length_penalty,
        "early_stop": early_stop,
        "return_attention": attention or None,
    }
    options = {name: _value(text) for name, text in _pairs(option).items()}
    options |= {name: value for name, value in given.items() if value is not None}
    machine = {"threads": threads, "isa": isa, "compute_type": compute_type}
    return partial(_decode, model, file, options, as_json, batch_size, machine)


@app.command()
def demo(
    words: Annotated[list[str] | None, typer.Argument(help="Words to decode.")] = None,
    model: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> Action:
    """Decodes words with the shipped model and draws what it looked at."""
    return partial(show, words or list(WORDS), model or str(demo_model()))


@app.command()
def convert(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="A checkpoint, or encoder and decoder.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="The model file to write.")],
    importer: Annotated[str | None, typer.Option("--from", help="Who wrote the source.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the importer; repeatable.")
    ] = None,
    map_file: Annotated[str | None, typer.Option("--map", help="A TOML file: your wiring.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Beside its own program.")] = False,
    storage: Annotated[str, typer.Option(help="float32, or bfloat16: rounded.")] = "float32",
) -> Action:
    """Another program's checkpoint to a model file."""
    from . import convert as converting

    if len(sources) > 2:
        raise typer.BadParameter(f"{len(sources)} sources: give one, or an encoder and a decoder")
    if storage not in STORAGES:
        raise typer.BadParameter(f"--storage is {storage!r}, must be {' or '.join(STORAGES)}")
    options = _pairs(option)
    if map_file is not None and (importer is not None or options or verify):
        raise typer.BadParameter("--map writes the whole model: no --from, --option or --verify")
    source = sources[0] if len(sources) == 1 else sources
    if map_file is not None:
        return partial(converting.by_map, source, map_file, output, storage)
    return partial(converting.by_importer, source, importer, options, output, storage, verify)


@app.command()
def inspect(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> Action:
    """The graphs, sizes and rules of a model file; only its header is read."""
    return partial(_inspect, model, as_json)


@app.command()
def plot(
    model: ModelArgument,
    tokens: Annotated[list[str], typer.Argument(metavar="TOKENS", help="One source.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A .pdf, .png or .svg file.")],
    beam_size: Annotated[int | None, typer.Option(min=1, help="1 is greedy.")] = None,
    head: Annotated[int | None, typer.Option(min=0, help="Where there are several.")] = None,
) -> Action:
    """Decodes one source and draws what it looked at into a file."""
    if Path(output).suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"-o is {output!r}, must end in {', '.join(FORMATS)}")
    options = {} if beam_size is None else {"beam_size": beam_size}
    return partial(_plot, model, tokens, output, options, head)


@app.command()
def verify(
    model: ModelArgument,
    seed: Annotated[int, typer.Option(min=0, help="Of the random inputs.")] = 0,
) -> Action:
    """Checks a model file on this machine: digest, self-test, core against reference."""
    return partial(_verify, model, seed)


# --- what they do ---


def _decode(
    path: str,
    file: str,
    options: dict[str, Any],
    as_json: bool,
    batch_size: int,
    machine: dict[str, Any],
) -> int:
    model = read(path)
    try:
        chosen = DecodeOptions.of(model.generation, None, options)
    except InputError as error:
        return _failed(str(error), USAGE)
    decoder = model.graphs.get("decoder")
    if "return_attention" in options and (decoder is None or "alignment" not in decoder.outputs):
        raise InputError(f"{path}: --attention, but this model gives no alignment")
    ranked = decoder is not None and chosen.num_hypotheses > 1
    form = LineForm.of(model, ranked=ranked, as_json=as_json)
    with Engine.load(model, **machine) as engine, _opened(file) as lines:
        size = None if file == "-" else os.fstat(lines.fileno()).st_size
        # Who types wants an answer to every line.
        chunk = 1 if lines.isatty() else batch_size * machine["threads"]

        def write(text: str) -> None:
            sys.stdout.write(text)

        with _progress(size) as advance:

            def done(count: int, read_bytes: int) -> None:
                sys.stdout.flush()
                advance(count, read_bytes)

            decode_lines(
                engine,
                form,
                lines,
                write,
                chunk=chunk,
                batch_size=batch_size,
                options=options,
                advance=done,
            )
    return OK


def _inspect(path: str, as_json: bool) -> int:
    header = read_header(path)
    if as_json:
        print(json.dumps(listing.as_json(header), ensure_ascii=False))
    else:
        print(listing.listing(header, Path(path).name))
    return OK


def _plot(
    path: str, tokens: list[str], output: str, options: dict[str, Any], head: int | None
) -> int:
    model = read(path)
    decoder = model.graphs.get("decoder")
    if decoder is None or "alignment" not in decoder.outputs:
        raise InputError(f"{path}: nothing to plot, this model gives no alignment")
    source = _source(tokens, LineForm.of(model))
    try:
        options = {**options, "return_attention": True}
        chosen = DecodeOptions.of(model.generation, None, options)
    except InputError as error:
        return _failed(str(error), USAGE)
    with Engine.load(model) as engine:
        result = engine.decode(source, options=chosen)
    try:
        with _notes():
            map_ = plotted(result, head=head, target=rows_of(result.hypotheses[0], model))
    except (InputError, ImportError) as error:  # a head that is not there, no matplotlib
        return _failed(str(error), USAGE)
    save(map_, output)
    return OK


def _verify(path: str, seed: int) -> int:
    model, digest = read_with_digest(path)
    print(f"{'digest':12} {'file':12} {digest}: ok")
    passed = True
    for found in verified(model, seed=seed):
        passed = passed and found.passed
        verdict = "ok" if found.passed else "FAILED"
        print(f"{found.check:12} {found.where:12} {found.text}: {verdict}", flush=True)
    return OK if passed else _failed(f"{path}: verification failed", INPUT)


# --- arguments, streams, errors ---


def _max_length(text: str) -> int | tuple[int, int] | str:
    parts = text.split(",")
    if text == "source":
        return text
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(
            f"--max-length is {text!r}, must be a number, 'source', or A,B for A x source length "
            "+ B"
        )
    numbers = [int(part) if len(part) < 19 else 10**18 for part in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _pairs(texts: list[str] | None) -> dict[str, str]:
    parts = [text.partition("=") for text in texts or ()]
    for name, equals, _ in parts:
        if not name or not equals:
            raise typer.BadParameter(f"--option is {name!r}, must be NAME=VALUE")
    return {name: value for name, _, value in parts}


def _value(text: str) -> Any:
    """JSON where it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _source(tokens: list[str], form: LineForm) -> list[str] | list[int]:
    """The tokens of arguments; one argument is a word where tokens are characters."""
    if form.identifiers:
        return form.read(" ".join(tokens).encode("utf-8", "surrogateescape"))
    return list(tokens[0]) if form.characters and len(tokens) == 1 else tokens


@contextmanager
def _notes() -> Iterator[None]:
    """What the package logs, on stderr."""
    handler, logger = logging.StreamHandler(sys.stderr), logging.getLogger("s2s_engine")
    handler.setFormatter(logging.Formatter("s2s-engine: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield cast(BinaryIO, sys.stdin.buffer)
    else:
        with Path(file).open("rb") as opened:
            yield opened


@contextmanager
def _progress(size: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar over the bytes of a file on stderr, or nothing: where stderr is no terminal, or where
    the results are written on the same one."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda lines, size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.fields[lines]:,} lines"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task, total = progress.add_task("", total=size, lines=0), 0

        def advance(lines: int, size: int) -> None:
            nonlocal total
            total += lines
            progress.update(task, advance=size, lines=total)

        yield advance


def _use_utf8() -> None:
    """Results are the same bytes under every locale and on every system."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def _failed(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"s2s-engine: {' '.join(message.splitlines())}", file=sys.stderr)
    return code
