"""The command `convert`, and foreign checkpoints: what is printed, written and refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from s2s_engine import Engine, InputError, ModelFormatError, cli
from s2s_engine.importers import arrays_of
from s2s_engine.importers.checkpoint import read
from scripts import loaded

PAGE = Path(__file__).parents[1] / "scripts" / "importers_table.py"


def arrays(h: int = 6, e: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {"enc_emb": (29, e), "dec_emb": (74, e)}
    shapes |= {"fc_w": (74, h), "fc_b": (74,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * h, e), f"{side}_w_hh": (3 * h, h)}
        shapes |= {f"{side}_b_ih": (3 * h,), f"{side}_b_hh": (3 * h,)}
    return {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.savez(tmp_path / "checkpoint.npz", **arrays())
    return tmp_path / "checkpoint.npz"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_checkpoint_becomes_a_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = source.with_name("g2p.safetensors")
    code, out, err = run(capsys, "convert", source, "-o", output)
    assert (code, err) == (0, "")
    size = output.stat().st_size
    assert out == (
        f"importer  g2p_en: g2p_en\nwritten   {output}: {size} bytes, float32, with a self-test\n"
    )
    with Engine.load(output) as engine, Engine.load(source) as foreign:
        assert engine.self_test().passed
        assert engine.decode("abc").tokens == foreign.decode("abc").tokens
        assert engine.info.provenance["source"] == "checkpoint.npz"
        assert str(source.parent) not in repr(engine.info.provenance)


@pytest.mark.parity("torch")
def test_verification_is_noted_in_the_file(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    output = source.with_name("g2p.safetensors")
    code, out, _ = run(capsys, "convert", source, "-o", output, "--verify")
    assert code == 0 and f"verified  torch {torch.__version__}: 7 inputs" in out
    with Engine.load(output) as engine:
        facts = engine.info.provenance
    assert facts["verified_with"] == f"torch {torch.__version__}"
    assert 0 < facts["verified_difference"] < 1e-5


@pytest.mark.parity("torch")
def test_what_fails_verification_is_not_written(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2s_engine.importers.peers import g2p_en

    def other(self: object, w: dict[str, np.ndarray]) -> None:
        original(self, {**w, "dec_b_hh": 1 + w["dec_b_hh"]})

    original = g2p_en.G2pEn.__init__
    monkeypatch.setattr(g2p_en.G2pEn, "__init__", other)
    output = source.with_name("g2p.safetensors")
    code, _, err = run(capsys, "convert", source, "-o", output, "--verify")
    assert code == 1 and not output.exists()
    assert "differ first at decoder.h[" in err and "nothing was written" in err


def test_verification_without_its_program_says_what_is_needed(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "s2s_engine.importers.peers.g2p_en", raising=False)
    monkeypatch.delitem(sys.modules, "s2s_engine.importers.peers.modules", raising=False)
    code, _, err = run(capsys, "convert", source, "-o", "x", "--verify")
    assert code == 1
    assert "--verify runs the network of g2p_en in its own framework, which needs torch" in err


def test_a_map_takes_the_place_of_an_importer(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = source.with_name("map.toml"), source.with_name("m.safetensors")
    path.write_text(
        'unused = ["dec_*", "enc_[wb]*", "fc_*"]\n'
        "encoder.inputs.tokens = { ids = 29 }\n"
        'encoder.nodes.x = { op = "embedding", x = "tokens", weight = "enc_emb" }\n'
        'encoder.outputs.logits = "x"\n'
    )
    code, out, _ = run(capsys, "convert", source, "--map", path, "-o", output)
    assert code == 0 and out.startswith("map       map.toml\nwritten   ")
    code, _, err = run(capsys, "convert", source, "--map", path, "-o", output, "--verify")
    assert code == 2 and "--map writes the whole model" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--from", "g2p"), 1, "there is no importer 'g2p'; importers are "),
        (("--option", "a"), 2, "--option is 'a', must be NAME=VALUE"),
        (("--option", "a=1"), 1, "importer g2p_en has no option 'a'; its options are source_voc"),
        (("--storage", "int8"), 2, "--storage is 'int8', must be float32 or bfloat16"),
        (("b", "c"), 2, "3 sources: give one, or an encoder and a decoder"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = source.with_name("no.safetensors")
    given, _, err = run(capsys, "convert", source, "-o", output, *arguments)
    assert (given, output.exists()) == (code, False)
    assert message in err


def test_sources_of_every_form(source: Path) -> None:
    with Engine.load(source) as engine:
        want = engine.decode("abc").ids
    for form in (source.read_bytes(), str(source), arrays()):
        with Engine.load(form) as engine:
            assert engine.decode("abc").ids == want
    pair = read([source, source])
    assert pair.format == "pair" and "decoder.enc_emb" in pair.arrays
    assert set(arrays_of(source)) == set(arrays())
    folder = read(source.parent)
    assert folder.format == "folder" and folder.beside("checkpoint.npz") == source


def test_what_is_no_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3), b=np.zeros(2))
    with pytest.raises(ModelFormatError, match=r"no importer knows these weights \(npz: a, b\)"):
        Engine.load(tmp_path / "other.npz")
    (tmp_path / "text.txt").write_text("hello, world")
    with pytest.raises(ModelFormatError, match="begins with b'hello, w': no format that is read"):
        arrays_of(tmp_path / "text.txt")
    with pytest.raises(InputError, match="cannot import a model from int: give a path, bytes"):
        Engine.load(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"holds 'a': list; it must map names to NumPy arrays"):
        Engine.load({"a": [1]})  # type: ignore[dict-item]
    with pytest.raises(FileNotFoundError):
        Engine.load(tmp_path / "nothing.npz")


def test_a_model_of_this_engine_needs_no_importer(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = source.with_name("g2p.safetensors")
    assert run(capsys, "convert", source, "-o", output)[0] == 0
    code, _, err = run(capsys, "convert", output, "-o", output)
    assert code == 1 and "is a model file of this engine already" in err


@pytest.mark.parametrize("name", ["../x", "/x"])
def test_archives_stay_inside(name: str, tmp_path: Path) -> None:
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(ModelFormatError, match="stands twice, or outside of the archive"):
        read(packed.getvalue())


def test_archives_are_bounded_and_whole() -> None:
    import gzip
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("a")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ModelFormatError, match="member 'a' is no plain file"):
        read(packed.getvalue())
    with pytest.raises(ModelFormatError, match="the gzip stream is truncated"):
        read(packed.getvalue()[:-9])
    with pytest.raises(ModelFormatError, match="unpacks to more than 67108864 bytes"):
        read(gzip.compress(bytes(80 << 20)))


@pytest.mark.skipif(not PAGE.is_file(), reason="reads the source tree")
def test_the_table_of_importers_is_theirs() -> None:
    module = loaded(PAGE)
    assert module.PAGE.read_text() == module.page(), "run python scripts/importers_table.py"
