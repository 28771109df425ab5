"""Attention maps on paper: what is drawn where, in which fonts, and what stays untouched."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest

from s2s_engine import (
    Engine,
    Hypothesis,
    InputError,
    Model,
    ModelBuilder,
    Result,
    cli,
    demo_model,
    plot,
)

pytestmark = pytest.mark.parity("matplotlib")

WEIGHTS = np.array([[0.7, 0.2, 0.1], [0.0, 0.25, 0.75]], np.float32)


def result(
    weights: Any = WEIGHTS, source: str = "abc", target: str = "x", finish_reason: Any = "eos"
) -> Result:
    """A result with one hypothesis: tokens are letters."""
    ids, log_probs = list(range(len(target))), np.zeros(len(target) + 1, np.float32)
    best = Hypothesis(ids, list(target), 0.0, 0.0, log_probs, weights, finish_reason)
    return Result([best], list(source))


def ticks(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def bar_of(ax: Any) -> Any:
    (bar,) = ax.child_axes
    return bar


def pixels(ax: Any) -> Any:
    """The figure as it is drawn, (height, width, 4) from 0 to 255."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


# --- what is drawn ---


def test_a_result_is_drawn_with_its_tokens() -> None:
    ax = plot.attention(result())
    np.testing.assert_array_equal(ax.images[0].get_array(), WEIGHTS)
    assert ticks(ax.xaxis) == ["a", "b", "c"] and ticks(ax.yaxis) == ["x", "</s>"]
    assert ax.get_xlabel() == "source" and ax.get_ylabel() == "target"
    assert ax.images[0].get_clim() == (0, 1) and ax.get_aspect() == 1
    bar = bar_of(ax)
    assert "attention weight" in (bar.get_xlabel(), bar.get_ylabel())


def test_the_end_has_a_row_only_where_it_was_reached() -> None:
    ax = plot.attention(result(target="xy", finish_reason="length"))
    assert ticks(ax.yaxis) == ["x", "y"]


def test_the_map_of_the_shipped_model() -> None:
    if not demo_model().exists():
        pytest.skip("the shipped model is not in this tree")
    with Engine.load(demo_model()) as engine:
        options: dict[str, Any] = {"beam_size": 5, "num_hypotheses": 3, "return_attention": True}
        found = engine.decode(list("phonograph"), **options)
    for number, hypothesis in enumerate(found.hypotheses):
        ax = plot.attention(found, hypothesis=number)
        np.testing.assert_array_equal(ax.images[0].get_array(), hypothesis.attention)
        assert ticks(ax.xaxis) == [*"phonograph", "</s>"]
        assert ticks(ax.yaxis) == [*hypothesis.tokens, "</s>"]


def test_every_cell_has_the_colour_of_its_weight() -> None:
    from matplotlib import colormaps

    weights = np.linspace(0, 1, 42).reshape(6, 7)
    ax = plot.attention(weights)
    image = pixels(ax)
    for row, column in np.ndindex(weights.shape):
        x, y = ax.transData.transform((column, row))
        want = colormaps["Blues"](weights[row, column], bytes=True)
        assert np.abs(image[len(image) - int(y), int(x)].astype(int) - want).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (3, 3), (60, 60), (12, 300)])
def test_a_figure_of_its_own_fits_the_map_and_cells_are_squares(shape: tuple[int, int]) -> None:
    ax = plot.attention(np.zeros(shape), title="a title that is rather long")
    image = pixels(ax)
    box = ax.get_window_extent()
    assert box.width / shape[1] == pytest.approx(box.height / shape[0])
    edges = [image[0], image[-1], image[:, 0], image[:, -1]]
    assert all((edge == 255).all() for edge in edges)
    drawn = ax.figure.get_tightbbox()
    width, height = ax.figure.get_size_inches()
    assert 0 < drawn.x0 < 0.2 and 0 < drawn.y0 < 0.2
    assert 0 < width - drawn.x1 < 0.2 and 0 < height - drawn.y1 < 0.2


@pytest.mark.parametrize("count", [2, 8, 20, 60])
@pytest.mark.parametrize("word", ["a", "word", "considerably"])
def test_labels_do_not_overlap_and_can_be_read(word: str, count: int) -> None:
    words = [word] * count
    ax = plot.attention(np.zeros((count, count)), source=words, target=words)
    pixels(ax)
    for axis in (ax.xaxis, ax.yaxis):
        labels = axis.get_ticklabels()
        assert all(label.get_fontsize() >= 7 for label in labels)
        if labels[0].get_rotation() in (0, 90):
            boxes = [label.get_window_extent() for label in labels]
            apart = [not a.overlaps(b) for a, b in pairwise(boxes)]
            assert all(apart)


def test_one_head_of_several() -> None:
    heads = np.stack([WEIGHTS, 1 - WEIGHTS])
    ax = plot.attention(result(heads), head=1)
    np.testing.assert_array_equal(ax.images[0].get_array(), 1 - WEIGHTS)
    np.testing.assert_array_equal(plot.attention(heads[:1]).images[0].get_array(), WEIGHTS)


def test_heads_side_by_side_in_axes_of_a_caller() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, 2)
    for head, panel in enumerate(panels):
        heads = np.stack([WEIGHTS, 1 - WEIGHTS])
        assert plot.attention(heads, panel, head=head, title=f"head {head}") is panel
    pixels(panels[0])
    left, right = (panel.get_tightbbox() for panel in panels)
    assert not left.overlaps(right)
    assert [panel.get_title() for panel in panels] == ["head 0", "head 1"]
    assert tuple(figure.get_size_inches()) == (9, 3)


def test_a_self_attention_map_of_an_encoder() -> None:
    weights, tokens = np.eye(3, dtype=np.float32), ["a", "b", "a"]
    ax = plot.attention(weights, source=tokens, target=tokens)
    assert ticks(ax.xaxis) == ticks(ax.yaxis) == tokens
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("source", "source")


def test_positions_where_there_are_no_tokens() -> None:
    ax = plot.attention(WEIGHTS)
    assert ticks(ax.xaxis) == ["0", "1", "2"] and ticks(ax.yaxis) == ["0", "1"]
    ax = plot.attention(np.zeros((2, 100)))
    assert ticks(ax.xaxis) == [str(k) for k in range(0, 100, int(ticks(ax.xaxis)[1]))]
    assert 10 <= len(ticks(ax.xaxis)) < 100


def test_columns_that_are_not_tokens_are_positions() -> None:
    """An encoder may halve its positions, or read features."""
    assert ticks(plot.attention(result(source="abcdef")).xaxis) == ["0", "1", "2"]
    assert ticks(plot.attention(result(source="")).xaxis) == ["0", "1", "2"]


def test_labels_given_replace_tokens() -> None:
    ax = plot.attention(result(), source=["p", "q", "r"], target="yz")
    assert ticks(ax.xaxis) == ["p", "q", "r"] and ticks(ax.yaxis) == ["y", "z"]


def test_weights_outside_of_the_range_are_shown_by_arrows_of_the_bar() -> None:
    maps = [WEIGHTS, 2 * WEIGHTS, WEIGHTS - 0.5, 3 * WEIGHTS - 0.5]
    extents = [plot.attention(weights).images[0].colorbar.extend for weights in maps]
    assert extents == ["neither", "max", "min", "both"]


def test_tokens_are_no_formulas_and_blanks_are_seen() -> None:
    tokens = ["$x_1$", "$", "\\alpha", " a", " ", "\x1b\n", "50%", "", "new york", "a" * 50]
    ax = plot.attention(np.eye(10), source=tokens, target=tokens)
    assert ticks(ax.xaxis) == [
        "$x_1$", "$", "\\alpha", "␣a", "␣", "\\x1b\\n", "50%", "", "new york", "a" * 23 + "…",
    ]  # fmt: skip
    assert not any(label.get_parse_math() for label in ax.xaxis.get_ticklabels())
    pixels(ax)


# --- fonts ---

# DejaVu, which comes with matplotlib, has these.
KNOWN = [
    "café",
    "слово",
    "λόγος",
    "كتاب",
    "שלום",
    "ქართ",
    "😀",
    "e\u0301",
    "می\u200cرود",
    "❤\ufe0f",
]


def test_scripts_of_the_fonts_that_come_with_matplotlib(caplog: pytest.LogCaptureFixture) -> None:
    ax = plot.attention(np.eye(len(KNOWN)), source=KNOWN, target=KNOWN)
    pixels(ax)
    assert ticks(ax.xaxis) == KNOWN and caplog.text == ""


@pytest.fixture
def fonts(tmp_path: Path) -> Iterator[Any]:
    """matplotlib's fonts, with none but its own installed."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    before = list(fontManager.ttflist)
    own = matplotlib.get_data_path()
    fontManager.ttflist[:] = [font for font in before if font.fname.startswith(own)]
    fontManager._findfont_cached.cache_clear()
    yield fontManager
    fontManager.ttflist[:] = before
    fontManager._findfont_cached.cache_clear()


def squares(characters: str, path: Path) -> str:
    """A font whose characters are squares; the family's name."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"c{ord(c):x}" for c in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"c{ord(c):x}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path.stem


def test_an_installed_font_is_found_for_characters_that_others_lack(
    fonts: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, characters in (("Thai", "กข"), ("Chinese", "中文"), ("Latin", "abc")):
        squares(characters, tmp_path / f"{name}.ttf")
        fonts.addfont(tmp_path / f"{name}.ttf")
    ax = plot.attention(WEIGHTS, source=["a中", "ขก", "文"], title="文")
    families = ax.xaxis.get_ticklabels()[0].get_fontfamily()
    assert families[-2:] == ["Chinese", "Thai"] and "Latin" not in families
    assert ax.title.get_fontfamily() == families
    pixels(ax)
    assert caplog.text == ""


def test_characters_without_a_font_are_logged_by_name(
    fonts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "s2s_engine")
    ax = plot.attention(WEIGHTS, source=["a", "ก文", "ก"])
    (record,) = caplog.records
    assert record.name == "s2s_engine"
    assert record.message == (
        "no installed font has 'ก' (U+0E01 THAI CHARACTER KO KAI), "
        "'文' (U+6587 CJK UNIFIED IDEOGRAPH-6587)"
    )
    with pytest.warns(UserWarning, match="missing from font"):
        pixels(ax)


# --- what stays untouched ---


def parameters() -> dict[str, Any]:
    """matplotlib's parameters; to look at the backend in another way would choose one."""
    from matplotlib import rcParams

    return {name: dict.__getitem__(rcParams, name) for name in rcParams}


def test_nothing_global_changes(tmp_path: Path) -> None:
    before = parameters()
    for path in ("map.png", "map.pdf", "map.svg"):
        plot.save(plot.attention(result(), title="a title"), tmp_path / path)
    assert parameters() == before


def test_maps_do_not_depend_on_a_style_of_grids_and_origins() -> None:
    from matplotlib import rc_context

    with rc_context({"axes.grid": True, "image.origin": "lower", "image.aspect": "auto"}):
        ax = plot.attention(result())
    assert ax.yaxis_inverted() and ax.get_aspect() == 1
    assert not any(line.get_visible() for line in ax.get_xgridlines())


ALONE = """
import sys
import s2s_engine, s2s_engine.plot, s2s_engine.cli
assert "matplotlib" not in sys.modules
import numpy
s2s_engine.plot.save(s2s_engine.plot.attention(numpy.eye(3)), "map.png")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def test_only_drawing_imports_matplotlib_and_never_pyplot(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", ALONE], cwd=tmp_path, check=True)
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_without_matplotlib_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError) as error:
        plot.attention(WEIGHTS)
    assert str(error.value) == 'plotting needs matplotlib: pip install "s2s_engine[plot]"'


# --- bad input ---

HEADS = np.stack([WEIGHTS, WEIGHTS])


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (result(None), {}, "the result has no attention: decode with return_attention=True"),
        (result(), {"hypothesis": 1}, "hypothesis is 1, must be 0"),
        (result(), {"hypothesis": -1}, "hypothesis is -1, must be 0"),
        (result(), {"hypothesis": "x"}, "hypothesis is 'x', must be an integer"),
        (result(), {"head": 1}, "head is 1, must be 0"),
        (WEIGHTS, {"hypothesis": 1}, "hypothesis is 1, must be 0"),
        (HEADS, {}, "head is None, must be 0 to 1: the map has 2 heads"),
        (HEADS, {"head": 2}, "head is 2, must be 0 to 1"),
        (HEADS, {"head": True}, "head is True, must be an integer"),
        (WEIGHTS, {"source": ["a"]}, "source has 1 labels, must have 3: one per column of the map"),
        (WEIGHTS, {"target": "abc"}, "target has 3 labels, must have 2: one per row of the map"),
        (np.zeros(3), {}, "attention is float64 of shape (3,), must be numbers of shape "
                          "(target, source) or (heads, target, source)"),
        (np.zeros((0, 3)), {}, "attention is float64 of shape (0, 3), must be numbers of shape "
                               "(target, source) or (heads, target, source)"),
        ([["a"]], {}, "attention is <U1 of shape (1, 1), must be numbers of shape "
                      "(target, source) or (heads, target, source)"),
    ],
)  # fmt: skip
def test_bad_input(given: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        plot.attention(given, **options)
    assert str(error.value) == message


# --- the command ---

BEGINNINGS = {"png": b"\x89PNG\r\n", "pdf": b"%PDF-", "svg": b"<?xml"}


def run(*arguments: object) -> int:
    return cli.run(["plot", *map(str, arguments)])


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_command_writes_a_file(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.lstm_luong().save(tmp_path / "model")
    output = tmp_path / f"map.{suffix}"
    assert run(tmp_path / "model", "s1", "s2", "--beam-size", 2, "-o", output) == 0
    assert capsys.readouterr() == ("", "")
    data = output.read_bytes()
    assert data.startswith(BEGINNINGS[suffix]) and b"/Type3" not in data


def two_heads() -> Model:
    """A decoder that attends with two heads."""
    w, m = models.Weights(0), ModelBuilder(source=9, target=7)
    e, d = m.encoder, m.decoder
    memory, h = e.gru(e.embedding(e.tokens, w(9, 5)), w.gru(5, 6))
    e.output(memory=memory, h=h)
    h = d.gru_cell(d.embedding(d.token, w(7, 4)), d.state("h", initial="h"), w.gru(4, 6))
    context, alignment = d.attention(query=h, keys="memory", values="memory", score="dot", heads=2)
    d.next(h=h)
    d.output(logits=d.linear([h, context], w(7, 12)), alignment=alignment)
    return m.build(start=1, end=[2], generation={"max_length": 5})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes that commands draw."""
    axes: list[Any] = []
    monkeypatch.setattr(cli, "save", lambda ax, path: axes.append(ax))
    return axes


def test_arguments_are_tokens_and_a_word_of_characters(tmp_path: Path, drawn: list[Any]) -> None:
    model = models.lstm_luong(source=6, target=6)
    words = {"tokens": ("<", ">", "</s>", "a", "b", " "), "target": tuple("<>;xyz")}
    replace(model, vocabularies=words, characters=True).save(tmp_path / "characters")
    models.no_recurrence().save(tmp_path / "ids")
    models.lstm_luong().save(tmp_path / "words")
    output = tmp_path / "map.svg"
    assert run(tmp_path / "characters", "ab a", "-o", output) == 0
    assert run(tmp_path / "characters", "a", "b", "-o", output) == 0
    assert run(tmp_path / "words", "s3", "s4", "-o", output) == 0
    with Engine.load(tmp_path / "words") as engine:
        want = engine.decode(["s3", "s4"], return_attention=True)
    assert [ticks(ax.xaxis) for ax in drawn] == [
        ["a", "b", "␣", "a", "</s>"], ["a", "b", "</s>"], ["s3", "s4", "s2"],
    ]  # fmt: skip
    np.testing.assert_array_equal(drawn[2].images[0].get_array(), want.attention)


def test_a_head_of_a_model_is_chosen(
    tmp_path: Path, drawn: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = two_heads()
    model.save(tmp_path / "model")
    arguments = (tmp_path / "model", 4, 5, "-o", tmp_path / "map.png")
    assert run(*arguments) == run(*arguments, "--head", 2) == 2
    assert capsys.readouterr().err == (
        "s2s-engine: head is None, must be 0 to 1: the map has 2 heads\n"
        "s2s-engine: head is 2, must be 0 to 1\n"
    )
    assert run(*arguments, "--head", 1) == 0
    with Engine.load(model) as engine:
        want = engine.decode([4, 5], return_attention=True).attention
    assert want is not None
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), want[1])


def test_the_command_names_characters_without_a_font(
    fonts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.lstm_luong(source=4)
    words = {**model.vocabularies, "tokens": ("a", "b", "c", "ก")}
    replace(model, vocabularies=words).save(tmp_path / "model")
    for suffix in BEGINNINGS:
        assert run(tmp_path / "model", "a", "ก", "-o", tmp_path / f"map.{suffix}") == 0
        message = "no installed font has 'ก' (U+0E01 THAI CHARACTER KO KAI)"
        assert capsys.readouterr() == ("", f"s2s-engine: {message}\n")


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, model in {"luong": models.lstm_luong(), "plain": models.gru_plain()}.items():
        model.save(tmp_path / name)
    luong, plain, image = tmp_path / "luong", tmp_path / "plain", tmp_path / "map.png"
    for code, arguments, message in (
        (1, (plain, "s1", "-o", image), f"{plain}: nothing to plot, this model gives no alignment"),
        (1, (luong, "x", "-o", image), "token 0 of the input is 'x', not one of the 11 strings of "
                                       "the source vocabulary, which has no unknown token"),
        (1, (luong, "s1", "-o", tmp_path / "no" / "map.png"),
         f"{tmp_path / 'no' / 'map.png'}: No such file or directory"),
        (1, ("/no/model", "s1", "-o", image), "/no/model: No such file or directory"),
        (2, (luong, "s1", "-o", image, "--head", 1), "head is 1, must be 0"),
    ):  # fmt: skip
        assert run(*arguments) == code
        assert capsys.readouterr() == ("", f"s2s-engine: {message}\n")
    assert not image.exists()


def test_the_command_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models.lstm_luong().save(tmp_path / "model")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(tmp_path / "model", "s1", "-o", tmp_path / "map.png") == 2
    assert capsys.readouterr() == ("", f"s2s-engine: {plot.INSTALL}\n")
