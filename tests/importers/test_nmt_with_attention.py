"""The nmt_with_attention importer: checkpoints that TensorFlow wrote beside what it computed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verified import Recorded, check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.checkpoint import Checkpoint, read
from s2s_engine.importers.configurations.nmt_tutorial import VERSIONS
from s2s_engine.importers.importer import Options
from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.readers.tensorflow_files import TensorFlowFile
from s2s_engine.importers.readers.tensorflow_objects import Node, Objects
from s2s_engine.importers.registry import importer, recognised
from s2s_engine.importers.verification import verify

DATA = Path(__file__).parent / "data" / "nmt_with_attention"
STORY = json.loads((DATA / "sums.json").read_text())
NAME = "nmt_with_attention"
IDS = {"start": 3, "end": 2, "source_start": 2, "source_end": 3}
FIRST = {**IDS, "w1_reads": "query", "padded_length": 0}
SOURCE = ["", "[UNK]", "[START]", "[END]", "hola", "que", "tal", "hay", "aqui"]
TARGET = ["", "[UNK]", "[END]", "[START]", "hi", "how", "are", "you"]
# Checkpoint, record, options.
CASES = [
    ("first", "first", FIRST),
    ("first", "first_2019", {**FIRST, "w1_reads": "memory"}),
    ("second", "second", IDS),
    ("third", "third", IDS),
    ("third_keras3", "third_keras3", IDS),
]
IDENTITIES = [record for _, record, _ in CASES]


def recorded(name: str) -> Recorded:
    with np.load(DATA / f"{name}.npz") as file:
        return Recorded(f"TensorFlow {STORY['versions']['tensorflow']}", dict(file))


def test_the_files_are_those_that_the_script_wrote() -> None:
    files = {str(p.relative_to(DATA)): p for p in DATA.rglob("*") if p.is_file()}
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert STORY["sha256"].items() <= sums.items()
    assert set(sums) - set(STORY["sha256"]) == {"make.py", "sums.json"}


@pytest.mark.parametrize(("source", "record", "options"), CASES, ids=IDENTITIES)
def test_tensorflow_computes_the_same(source: str, record: str, options: dict[str, Any]) -> None:
    peer = recorded(record)
    imported = check(DATA / source, NAME, options, peer=peer, **peer.runs)
    assert imported.model.generation["max_length"] == 50


@pytest.mark.parametrize(("source", "record", "options"), CASES, ids=IDENTITIES)
def test_greedy_searches_of_tensorflow(source: str, record: str, options: dict[str, Any]) -> None:
    found = recorded(record)
    with Engine.load(DATA / source, importer=NAME, **options) as engine:
        for case in found.cases:
            tokens = found.inputs(case)
            want = found.arrays[f"{case}/greedy"].tolist()
            best = engine.decode(None, inputs=tokens, prepared=True, max_length=6).hypotheses[0]
            ended = want[-1] == options["end"]
            assert list(best.ids) == want[: len(want) - ended], case
            assert (best.finish_reason == "eos") == ended


def test_a_pair_of_checkpoints_is_one_network() -> None:
    peer = recorded("first")
    pair = [DATA / "first_encoder", DATA / "first_decoder.index"]
    imported = open_foreign(pair, None, FIRST)
    assert imported.importer.name == NAME
    assert verify(imported.model, peer, **peer.runs).passed


def test_ids_are_found_in_vocabularies() -> None:
    words = {"source_vocabulary": SOURCE, "target_vocabulary": TARGET}
    model = open_foreign(DATA / "third", None, words).model
    assert (model.start, model.end) == (3, (2,))
    assert (model.source.prepend, model.source.append) == ((2,), (3,))
    assert model.vocabularies["target"] == tuple(TARGET)
    marks = {"[START]": "<start>", "[END]": "<end>"}
    renamed = {side: [marks.get(word, word) for word in listed] for side, listed in words.items()}
    first = {"w1_reads": "query", "padded_length": 0}
    model = open_foreign(DATA / "first", None, {**first, **renamed, "start": 7}).model
    assert (model.start, model.end) == (7, (2,))
    with pytest.raises(InputError, match=r"needs the option start .*first id that the decoder"):
        open_foreign(DATA / "first", None, {**first, **words})


def test_unknown_words_are_unk_where_the_tutorial_has_it() -> None:
    words = {"source_vocabulary": SOURCE, "target_vocabulary": TARGET}
    with Engine.load(DATA / "third", **words) as engine:
        assert engine.decode(["hola", "nada"]).ids == engine.decode(["hola", "[UNK]"]).ids
    with (
        Engine.load(DATA / "first", **FIRST, **words) as engine,
        pytest.raises(InputError, match="nada"),
    ):
        engine.decode(["hola", "nada"])


def test_padding_is_read_by_the_first_version_alone() -> None:
    """The third case of a record is [start, 4, 5, end] and three zeros."""
    found, target = recorded("first"), [4, 5, 6]
    assert found.inputs("3")["tokens"] == [2, 4, 5, 3, 0, 0, 0]
    results = {}
    for source, options in (("first", FIRST), ("second", IDS), ("third", IDS)):
        for length in (0, 7):
            given = {**options, "padded_length": length}
            with Engine.load(DATA / source, importer=NAME, **given) as engine:
                results[source, length] = engine.forced_logits([4, 5], target=target)
        with Engine.load(DATA / source, importer=NAME, **options) as engine:
            padded = engine.forced_logits(
                None, inputs=found.inputs("3"), prepared=True, target=target
            )
        np.testing.assert_array_equal(padded, results[source, 7])
    for source in ("first", "second"):  # the second's decoder starts from a state behind padding
        assert np.abs(results[source, 0] - results[source, 7]).max() > 1e-3
    np.testing.assert_allclose(results["third", 0], results["third", 7], atol=1e-5)


def test_the_second_never_writes_what_its_translator_masks() -> None:
    with Engine.load(DATA / "second", **IDS) as engine:
        scored = engine.score([4, 5], [0]).token_log_probs
        assert scored[0] < -1e4
        for beam_size in (1, 4):
            for hypothesis in engine.decode([4], beam_size=beam_size, max_length=5).hypotheses:
                assert not {0, 1, 3} & set(hypothesis.ids)


# --- what is told and what is refused ---


@pytest.mark.parametrize("missing", ["w1_reads", "padded_length", *IDS])
def test_what_no_file_tells_must_be_told(missing: str) -> None:
    options = {name: value for name, value in FIRST.items() if name != missing}
    with pytest.raises(InputError, match=f"needs the option {missing} "):
        open_foreign(DATA / "first", None, options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"w1_reads": "both"}, "must be one of 'query', 'memory'"),
        ({"padded_length": -1}, "padded_length is -1, must be 0 to"),
        ({"start": 8}, "option start is 8, must be an id: 0 to 7"),
        ({"source_end": -1}, "option source_end is -1, must be an id: 0 to 8"),
        ({"reverse": True}, "has no option 'reverse'"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, ModelFormatError), match=message):
        open_foreign(DATA / "first", None, {**FIRST, **given})


def test_a_checkpoint_of_names_says_what_is_needed() -> None:
    by_name = DATA.parent / "tensorflow_v1"
    with pytest.raises(ModelFormatError, match="no importer knows"):
        open_foreign(by_name, None, {})
    with pytest.raises(ModelFormatError, match=r"holds variables by name.*save it with"):
        open_foreign(by_name, NAME, {})
    with pytest.raises(ModelFormatError, match="no object with an encoder and a decoder"):
        open_foreign(DATA.parent / "tensorflow_v2", NAME, {})
    with pytest.raises(ModelFormatError, match="no object with an encoder and a decoder"):
        open_foreign({"x": np.zeros(3)}, NAME, {})


def in_memory(arrays: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint whose objects are as the names of its variables say."""
    children: list[dict[str, int]] = [{}]
    keys: list[str | None] = [None]
    for name in arrays:
        at = 0
        for part in name.split("/"):
            if part not in children[at]:
                children[at][part] = len(children)
                children.append({})
                keys.append(None)
            at = children[at][part]
        keys[at] = name
    nodes = tuple(Node(*one) for one in zip(children, keys, strict=True))
    return Checkpoint("memory", None, "tensorflow", TensorFlowFile(dict(arrays), Objects(nodes)))


def arrays_of(version: str) -> dict[str, Any]:
    checkpoint = read(DATA / version)
    objects = checkpoint.content.objects
    (holder,) = objects.holders("encoder", "decoder")
    keys = {name: objects.key(holder, name) for name in VERSIONS[version]}
    return {name: checkpoint.arrays[key] for name, key in keys.items()}


def build(arrays: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    checkpoint = in_memory(arrays)
    ours = importer(NAME)
    return ours.build(checkpoint, Options(ours, options, checkpoint.where))


GRU, FC = "decoder/gru/cell", "decoder/fc"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder/fc2/kernel": np.zeros((2, 2))}, "'decoder/fc2/kernel' is not of the tutorial"),
        ({f"{FC}/bias": None}, "'decoder/fc/bias' of the first version is not there"),
        ({f"{FC}/kernel": np.zeros((4, 8), int)}, "is of int64, must be a float"),
        ({f"{FC}/kernel": np.zeros(4)}, r"has shape \(4,\), which does not fit"),
        ({f"{FC}/kernel": np.zeros((5, 8))}, "linear"),
        ({f"{GRU}/bias": np.zeros(12)}, "reset_after=False"),
        ({f"{GRU}/bias": np.zeros((3, 12))}, r"has shape \(3, 12\), which does not fit"),
        ({f"{GRU}/kernel": np.zeros((7, 13))}, r"has shape \(7, 13\), which does not fit"),
        ({f"{GRU}/kernel": np.zeros((6, 12))}, "gru_cell"),
        ({"decoder/embedding/embeddings": np.zeros(())}, "which does not fit"),
    ],
)
def test_other_networks_are_refused(changes: dict[str, Any], message: str) -> None:
    arrays = {**arrays_of("first"), **changes}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    assert recognised(in_memory(arrays)).name == NAME
    with pytest.raises(ModelFormatError, match=message):
        build(arrays, FIRST)


def test_the_tutorial_of_tensorflow_1_and_others_are_refused_by_name() -> None:
    old = {n.replace("attention/", ""): a for n, a in arrays_of("first").items()}
    with pytest.raises(ModelFormatError, match="2018 for TensorFlow 1"):
        build(old, FIRST)
    other = {n: a for n, a in arrays_of("first").items() if "/attention/" not in n}
    with pytest.raises(ModelFormatError, match="of no version of the tutorial"):
        build(other, FIRST)


@pytest.mark.parametrize("version", VERSIONS)
def test_names_of_dropout_are_left_alone(version: str) -> None:
    seed = {"decoder/dropout/seed_generator/seed_generator_state": np.zeros(2, np.uint32)}
    assert build({**arrays_of(version), **seed}, FIRST).start == 3


# --- where TensorFlow is installed ---


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("source", "record", "options"), CASES, ids=IDENTITIES)
def test_the_program_itself(source: str, record: str, options: dict[str, Any]) -> None:
    pytest.importorskip("tensorflow")
    imported = open_foreign(DATA / source, None, options)
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)
    assert verify(imported.model, imported.peer(), seed=1).passed


@pytest.mark.filterwarnings("ignore")
def test_several_heads() -> None:
    pytest.importorskip("tensorflow")
    random = np.random.default_rng(3)
    shapes = {name: array.shape for name, array in arrays_of("third").items()}
    for name in shapes:
        if "/mha/" in name:
            kernel, output = name.endswith("kernel"), "_output" in name
            heads = (3, 2, 4) if output and kernel else (4, 3, 2)
            shapes[name] = heads if kernel else (4,) if output else (3, 2)
    arrays = {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    checkpoint, ours = in_memory(arrays), importer(NAME)
    options = Options(ours, IDS, checkpoint.where)
    assert ours.peer is not None
    found = verify(ours.build(checkpoint, options), ours.peer(checkpoint, options))
    assert found.passed, str(found)


def test_the_script_writes_the_same_files(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    pytest.importorskip("tf_keras")
    if tensorflow.__version__ != STORY["versions"]["tensorflow"]:
        pytest.skip("another TensorFlow")
    shutil.copy(DATA / "make.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True, capture_output=True)
    made = json.loads((tmp_path / "sums.json").read_text())["sha256"]
    assert made.keys() == STORY["sha256"].keys()
    for name, digest in STORY["sha256"].items():
        if not name.endswith(".npz"):
            assert made[name] == digest, name
            continue
        ours, theirs = np.load(DATA / name), np.load(tmp_path / name)
        for array in ours.files:  # another processor rounds differently
            np.testing.assert_allclose(theirs[array], ours[array], atol=1e-5, err_msg=array)
