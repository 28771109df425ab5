"""The ONNX importer's sources, options, versions of operators, and what it refuses by name."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

sys.path.append(str(Path(__file__).parent / "data" / "onnx"))
import make_onnx as make  # noqa: E402
import onnx_networks as networks  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from test_onnx import DATA, IDS, stored  # noqa: E402
from verified import check  # noqa: E402

from s2s_engine import Engine, InputError, ModelFormatError  # noqa: E402
from s2s_engine.importers.loading import Imported, open_foreign  # noqa: E402
from s2s_engine.importers.verification import verify  # noqa: E402

pytestmark = pytest.mark.parity("torch", "onnx", "onnxruntime")


def script(pair: tuple[networks.Graph, ...], folder: Path, **options: Any) -> list[Path]:
    names = ("encoder", "decoder")
    return [
        g.export(folder / f"{n}.onnx", False, **options) for n, g in zip(names, pair, strict=False)
    ]


def verified(source: Any, **options: Any) -> Imported:
    imported = open_foreign(source, None, options)
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)
    return imported


# --- an encoder alone ---


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_tagger_is_an_encoder_alone(kind: Any, layers: int, tmp_path: Path) -> None:
    path = networks.tagger(kind, num_layers=layers).export(tmp_path / "tagger.onnx", False)
    imported = check(path, "onnx", without=("gates",) if kind is torch.nn.RNN else ())
    with Engine.load(imported.model) as engine:
        assert len(engine.decode([1, 2, 3]).ids) == 3


def test_a_tagger_of_the_other_exporter(tmp_path: Path) -> None:
    check(stored("tagger/encoder", tmp_path), "onnx")


def test_lengths_of_packed_sequences_are_the_sources(tmp_path: Path) -> None:
    path = networks.packed().export(tmp_path / "packed.onnx", False)
    check(path, "onnx")


BATCH: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "additive": ({"source": 0, "memory": 0, "hidden": 1}, {"token": 0, "hidden": 1, "memory": 0}),
    "concat": (
        {"src": 1, "memory": 1, "h_n": 0, "c_n": 0},
        {"token": 0, "h": 0, "c": 0, "memory": 1},
    ),
    "example": (
        {"source": 0, "memory": 0, "keys": 0},
        {"previous": 0, "memory": 0, "keys": 0, "h1": 1, "c1": 1, "h2": 1, "c2": 1},
    ),
}


@pytest.mark.parametrize("name", BATCH)
def test_a_batch_axis_may_be_open(name: str, tmp_path: Path) -> None:
    pair = [
        dataclasses.replace(graph, batch=axes)
        for graph, axes in zip(getattr(networks, name)(), BATCH[name], strict=True)
    ]
    files = script(tuple(pair), tmp_path)
    assert "batch" in str(onnx.load(files[1]).graph.input)
    verified(files, **IDS)


def test_an_encoder_may_read_features(tmp_path: Path) -> None:
    files = script(networks.features(), tmp_path)
    imported = check(files, "onnx", IDS)
    with Engine.load(imported.model) as engine:
        assert engine.decode(inputs={"frames": np.zeros((4, 3), np.float32)}, max_length=3).ids


# --- versions of operators ---


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 15, 18])
@pytest.mark.parametrize("name", ["additive", "concat", "example"])
def test_every_version_of_the_operators(name: str, opset: int, tmp_path: Path) -> None:
    files = script(getattr(networks, name)(), tmp_path, opset_version=opset)
    verified(files, **IDS)


# --- sources and options ---


def test_a_folder_and_its_options(tmp_path: Path) -> None:
    script(networks.additive(), tmp_path)
    options = {**IDS, "source_append": [2], "max_length": 7, "characters": True}
    words = {"source_vocabulary": list("abcdefghijk"), "target_vocabulary": list("ABCDEFGHI")}
    imported = verified(tmp_path, **options, **words)
    model = imported.model
    assert (model.start, model.end, model.generation) == (1, (2,), {"max_length": 7})
    assert model.source.append == (2,) and model.characters
    assert "alignment" in model.graphs["decoder"].outputs
    with Engine.load(model) as engine:
        assert engine.decode("abc").ids == engine.decode([0, 1, 2]).ids
    shutil.copy(tmp_path / "encoder.onnx", tmp_path / "encoder_2.onnx")
    with pytest.raises(InputError, match=r"2 files are called encoder\*\.onnx"):
        Engine.load(tmp_path, **IDS)


@pytest.mark.parametrize("name,kind", [("start", "an integer"), ("end", "a list of ids")])
def test_ids_that_no_file_holds_are_asked_for(name: str, kind: str, tmp_path: Path) -> None:
    files = script(networks.plain(), tmp_path)
    options = {key: value for key, value in IDS.items() if key != name}
    with pytest.raises(InputError, match=rf"needs the option {name} \({kind}\)"):
        Engine.load(files, **options)


def renamed(path: Path, names: dict[str, str]) -> None:
    model = onnx.load(path)
    for one in [*model.graph.input, *model.graph.output]:
        one.name = names.get(one.name, one.name)
    for one in model.graph.node:
        one.input[:] = [names.get(n, n) for n in one.input]
        one.output[:] = [names.get(n, n) for n in one.output]
    onnx.save(model, path)


def test_names_that_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    files = script(networks.additive(), tmp_path)
    renamed(files[1], {"hidden": "s", "hidden_out": "t", "memory": "m", "weights": "w"})
    with pytest.raises(
        InputError, match=r"decoder input 's' is neither .* encoder outputs: memory"
    ):
        Engine.load(files, **IDS)
    options = {**IDS, "states": "s=t", "hand_over": "s=hidden, m=memory", "logits": "logits"}
    verified(files, **options)
    verified(files, **{**options, "hand_over": "s=zeros,m=memory"})
    with pytest.raises(InputError, match=r"option states says s=u; inputs are s, m, outputs"):
        Engine.load(files, **{**options, "states": "s=u"})
    with pytest.raises(InputError, match=r"option hand_over: 's' must be 'decoder input=output'"):
        Engine.load(files, **{**options, "hand_over": "s"})
    with pytest.raises(InputError, match="option logits is 'x'"):
        Engine.load(files, **{**options, "logits": "x"})


@pytest.mark.parametrize(
    "before,after,other",
    [
        ("hidden", "hidden_out", "encoder_hidden"), ("h", "h_next", "h_n"), ("h0", "hn", "hidden"),
        ("decoder_hidden", "next_hidden", "h0"), ("hidden_state", "new_hidden_state", "hidden"),
        ("h_1", "h_1_next", "h_1"), ("past_h", "present_h", "h"),
    ],
)  # fmt: skip
def test_names_of_one_state_are_known(before: str, after: str, other: str, tmp_path: Path) -> None:
    files = script(networks.additive(), tmp_path)
    renamed(files[0], {"hidden": other, "memory": "outputs"})
    names = {"hidden": before, "hidden_out": after, "memory": "encoder_outputs"}
    renamed(files[1], {**names, "logits": "outputs"})
    verified(files, logits="outputs", **IDS)


def test_a_memory_of_fixed_length_needs_to_be_told(tmp_path: Path) -> None:
    files = script(networks.slots(), tmp_path)
    with pytest.raises(InputError, match="needs the option padding"):
        Engine.load(files, **IDS)
    with Engine.load(files, padding="zeros", **IDS) as engine:
        engine.decode([1] * 7)
        with pytest.raises(InputError, match="8"):
            engine.decode([1] * 8)


# --- what is refused ---


def test_other_sources_are_not_onnx(tmp_path: Path) -> None:
    files = script(networks.plain(), tmp_path)
    np.savez(tmp_path / "decoder.npz", w=np.zeros(2))
    with pytest.raises(ModelFormatError, match=r"decoder\.npz: the decoder is no ONNX file"):
        Engine.load([files[0], tmp_path / "decoder.npz"], importer="onnx", **IDS)
    with pytest.raises(InputError, match="has no option 'layers'"):
        Engine.load(files, layers=2)
    swapped = files[::-1]
    with pytest.raises((ModelFormatError, InputError), match="decoder"):
        Engine.load(swapped, **IDS)


def test_a_recurrence_unrolled_for_one_length_is_refused(tmp_path: Path) -> None:
    path = stored("unrolled/encoder", tmp_path)
    with pytest.raises(ModelFormatError) as error:
        Engine.load(path, example_length=networks.LENGTH)
    assert "unrolled for the length of an example" in str(error.value)
    assert "export with dynamo=False" in str(error.value)


def test_a_fixed_length_is_refused_and_may_be_told(tmp_path: Path) -> None:
    graph = networks.tagger()
    fixed = networks.Graph(graph.module, graph.arguments, graph.inputs, graph.outputs)
    path = fixed.export(tmp_path / "tagger.onnx", False)
    with pytest.raises(ModelFormatError, match=r"one fixed length \(source \[1, 6\]\): export"):
        Engine.load(path)
    open_ = graph.export(tmp_path / "open.onnx", False)
    with Engine.load(path, example_length=6) as one, Engine.load(open_) as other:
        ours, theirs = (engine.encode([1, 2, 3])["logits"] for engine in (one, other))
    assert np.array_equal(ours, theirs)
    imported = open_foreign(path, None, {"example_length": 6})
    assert verify(imported.model, imported.peer(), sources=[{"tokens": [1, 2, 3, 4, 5, 6]}]).passed
    with pytest.raises(InputError, match="at the length 6 alone"):
        verify(imported.model, imported.peer())


def test_broken_graphs_are_named_or_read(tmp_path: Path) -> None:
    """Attributes, weights and edges changed at random: never another exception."""
    files = script(
        networks.example() if networks.EXAMPLE.is_file() else networks.concat(), tmp_path
    )
    random = np.random.default_rng(0)
    whole = [onnx.load(path) for path in files]
    refused = 0
    for number in range(150):
        model = onnx.ModelProto()
        side = number % 2
        model.CopyFrom(whole[side])
        one = model.graph.node[random.integers(len(model.graph.node))]
        kind = random.integers(4)
        if kind == 0 and one.attribute:
            attribute = one.attribute[random.integers(len(one.attribute))]
            if attribute.type == onnx.AttributeProto.INT:
                attribute.i = int(random.integers(-3, 9))
            elif attribute.type == onnx.AttributeProto.INTS:
                attribute.ints[:] = random.integers(-3, 5, len(attribute.ints))
            elif attribute.type == onnx.AttributeProto.TENSOR:
                value = random.integers(-3, 9, random.integers(4)).astype(np.int64)
                attribute.t.CopyFrom(numpy_helper.from_array(value))
        elif kind == 1 and one.input:
            names = [name for other in model.graph.node for name in other.input]
            one.input[random.integers(len(one.input))] = names[random.integers(len(names))]
        elif kind == 2:
            one.op_type = model.graph.node[random.integers(len(model.graph.node))].op_type
        else:
            tensor = model.graph.initializer[random.integers(len(model.graph.initializer))]
            shape = random.integers(0, 5, random.integers(4))
            tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), tensor.name))
        path = tmp_path / "broken.onnx"
        onnx.save(model, path)
        pair = [path, files[1]] if side == 0 else [files[0], path]
        try:
            Engine.load(pair, **IDS).close()
        except (ModelFormatError, InputError):
            refused += 1
    assert refused > 60


# --- the stored files ---


def test_the_stored_files_are_what_was_written() -> None:
    digest, name = (DATA / "SHA256").read_text().split()
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest


def test_the_exporter_still_writes_them(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    done = subprocess.run(
        [sys.executable, str(DATA / "make_onnx.py"), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with (
        zipfile.ZipFile(tmp_path / "dynamo.zip") as new,
        zipfile.ZipFile(DATA / "dynamo.zip") as old,
    ):
        assert new.namelist() == old.namelist() == [f"{name}.onnx" for name in make.wanted()]
        for name in old.namelist():
            kept, written = (onnx.load_from_string(archive.read(name)) for archive in (old, new))
            assert [n.op_type for n in kept.graph.node] == [n.op_type for n in written.graph.node]
            arrays = [
                {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
                for model in (kept, written)
            ]
            assert arrays[0].keys() == arrays[1].keys()
            assert all(np.array_equal(array, arrays[1][n]) for n, array in arrays[0].items()), name
