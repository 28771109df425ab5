"""The Marian importer beside what Marian itself gave for models of every kind it has, and beside
Marian where it is installed; and what it refuses."""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verified import Recorded, check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.readers.marian_vocabularies import read_vocabulary
from s2s_engine.importers.verification import verify

DATA = Path(__file__).parent / "data" / "marian"
sys.path.insert(0, str(DATA))
import make_marian as make  # noqa: E402

sys.path.remove(str(DATA))
STORED = ("s2s.npz", "nematus.bin")
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"beam_size": 1},
    "beam": {"beam_size": 4},
    "normalized": {"beam_size": 4, "length_penalty": 0.6},
}


@cache
def fixture() -> Any:
    return json.loads(lzma.decompress((DATA / "fixture.json.xz").read_bytes()))


VARIANTS = [*make.VARIANTS, *STORED]


def model_file(variant: str, folder: Path, *, config: str | None = None, **changed: Any) -> Path:
    """The variant's model as an .npz, with the weights of `changed` instead (None: without)."""
    recorded = fixture()["variants"][variant]
    arrays = {**make.weights(variant, recorded["shapes"]), **changed}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    text = recorded["config"] if config is None else config
    make.write(folder / "m.npz", arrays, text, make.is_amun(recorded["flags"]))
    return folder / "m.npz"


def peer(variant: str) -> Recorded:
    arrays: dict[str, Any] = {}
    recorded = fixture()
    scores = recorded["variants"][variant]["scores"]
    for number, (source, target) in enumerate(recorded["cases"]):
        arrays[f"{number}/in/tokens"] = np.array(source)
        arrays[f"{number}/target"] = np.array(target)
        arrays[f"{number}/decoder.token_log_probs"] = np.array(scores[number])
    return Recorded(recorded["version"], arrays)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_and_translations_are_marians(variant: str, tmp_path: Path) -> None:
    path = DATA / variant if variant in STORED else model_file(variant, tmp_path)
    imported = open_foreign(path, None, {})
    assert imported.importer.name == "marian"
    recorded, theirs = fixture(), peer(variant)
    found = verify(imported.model, theirs, **theirs.runs)
    assert found.passed and found.values == 6, str(found)
    with Engine.load(imported.model) as engine:
        for search, options in OPTIONS.items():
            lists = recorded["variants"][variant][search]
            for (source, _), want in zip(recorded["cases"], lists, strict=True):
                got = engine.decode(source[:-1], num_hypotheses=len(want), **options).hypotheses
                assert [[i for i in one.ids if i != 0] for one in got] == [ids for _, ids in want]
                assert [one.score for one in got] == pytest.approx([s for s, _ in want], rel=2e-5)


# The gates of a cell with layer norm are slices, which no damage swaps.
WITHOUT: dict[str, tuple[str, ...]] = {
    "s2s": (), "lstm": (), "mixed": (), "deep_skip": (), "uni": (), "nematus_deep": (),
    "norm": ("gates",), "nematus_norm": ("gates",),
}  # fmt: skip


@pytest.mark.parametrize("variant", WITHOUT)
def test_every_damage_is_seen(variant: str, tmp_path: Path) -> None:
    theirs = peer(variant)
    path = model_file(variant, tmp_path)
    check(path, "marian", peer=theirs, without=WITHOUT[variant], **theirs.runs)


@pytest.mark.parametrize("variant", ["norm", "lstm_norm", "amun_norm", "nematus_norm"])
def test_gates_in_another_order_are_seen_behind_a_layer_norm(variant: str, tmp_path: Path) -> None:
    theirs, shapes = peer(variant), fixture()["variants"][variant]["shapes"]
    weights = make.weights(variant, shapes)
    for name in (name for name in shapes if name.endswith("_b") and name[:-1] + "U" in shapes):
        gates = np.split(weights[name], 4 if "lstm" in variant else 2, axis=-1)
        swapped = np.concatenate([gates[1], gates[0], *gates[2:]], axis=-1)
        model = open_foreign(model_file(variant, tmp_path, **{name: swapped}), None, {}).model
        assert not verify(model, theirs, **theirs.runs).passed, name


def test_a_peer_of_token_scores_is_held_to_all_of_them(tmp_path: Path) -> None:
    theirs = peer("s2s")
    theirs.arrays["1/decoder.token_log_probs"][2] += 1e-3  # type: ignore[index]
    model = open_foreign(model_file("s2s", tmp_path), None, {}).model
    found = verify(model, theirs, **theirs.runs)
    assert str(found.first).startswith("decoder.token_log_probs[2] of input 1, by ")


# --- what stands beside a model ---


def test_marians_own_file_has_its_vocabularies_and_search_beside_it() -> None:
    model = open_foreign(DATA / "s2s.npz", None, {}).model
    assert model.generation == {"beam_size": 12, "max_length": [3, 0], "early_stop": "marian"}
    assert model.vocabularies["tokens"][:3] == ("</s>", "<unk>", "t2")
    assert (model.source.append, model.source.unknown, model.start, model.end) == (
        (0,),
        1,
        None,
        (0,),
    )
    assert model.provenance["type"] == "s2s"
    with Engine.load(DATA / "s2s.npz") as engine:
        assert engine.decode(["t4", "t9", "new"]).ids == engine.decode([4, 9, 1]).ids
    assert open_foreign(DATA / "nematus.bin", None, {}).model.vocabularies == {}


def test_search_and_words_are_as_the_files_say(tmp_path: Path) -> None:
    path = model_file("s2s", tmp_path)
    (tmp_path / "src.spm").write_bytes(
        b"".join(
            b"\x0a" + bytes([len(piece) + 7]) + b"\x0a" + bytes([len(piece)]) + piece
            + b"\x15\0\0\0\0"
            for piece in [b"<unk>", b"a", b"</s>", *(f"p{n}".encode() for n in range(7))]
        )
    )  # fmt: skip
    (tmp_path / "trg.txt").write_text("<unk>\n" + "".join(f"w{n}\n" for n in range(9)) + "</s>\n")
    (tmp_path / "decoder.yml").write_text(
        "models:\n  - /elsewhere/m.npz\nvocabs:\n  - some/src.spm\n  - trg.txt\n"
        "beam-size: 6\nnormalize: 0.6\nmax-length-factor: 2.0\n"
    )
    model = open_foreign(path, None, {}).model
    assert model.generation == {
        "beam_size": 6, "max_length": [2, 0], "early_stop": "marian", "length_penalty": 0.6
    }  # fmt: skip
    assert model.vocabularies["tokens"][:3] == ("<unk>", "a", "</s>")
    assert (model.source.append, model.source.unknown, model.end) == ((2,), 0, (10,))
    listed = ["</s>", "<unk>", *"abcdefghi"]
    model = open_foreign(path, None, {"target_vocabulary": listed}).model
    assert model.vocabularies["target"] == tuple(listed) and model.end == (0,)
    (tmp_path / "decoder.yml").write_text("models: [other.npz]\nbeam-size: 6\n")
    assert open_foreign(path, None, {}).model.generation["beam_size"] == 12


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("v.yml", "</s>: 0\n<unk>: 1\n'it''s': 2\n\"a\\\"\\x41\\u00e9: b\": 3\nnull: 4\n",
         ["</s>", "<unk>", "it's", 'a"A\xe9: b', "null"]),
        ("v.json", '{\n"UNK": 1, "eos": 0, "x: y": 2,\n"b": 3, "c": 4, "cut": 5}',
         ["eos", "UNK", "x: y", "b", "c"]),
        ("v.yml", "a: 2\nb: 3\nc:d: 4\n", ["</s>", "<unk>", "a", "b", "c:d"]),
        ("v.yml", "</s>: 0\n<unk>: 1\n\\: 2\n\x85: 3\n---: 4\n",
         ["</s>", "<unk>", "\\", "\x85", "---"]),
        ("v.txt", "a\n<unk>\nb\nc d\n</s>\ncut\n", ["a", "<unk>", "b", "c d", "</s>"]),
    ],
)  # fmt: skip
def test_vocabularies_are_read(name: str, text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = read_vocabulary(tmp_path / name, 5)
    assert found.words == words
    assert found.words[found.end] in ("</s>", "eos")
    assert found.words[found.unknown] in ("<unk>", "UNK")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("v.fsv", b"", "factored vocabulary"),
        ("v.yml", b"</s>: 0\n<unk>: 1\n", "has no word of id 2; the model has 3 ids"),
        ("v.yml", b"a: 0\n<unk>: 1\nc: 2\n", "has no word '</s>'"),
        ("v.yml", b"a: 2\nb: 2\n", "the id 2 stands twice"),
        ("v.yml", b"? a\n: 2\n", "line 1: '. a' is not 'word: id'"),
        ("v.yml", b"&x a: 2\n", "line 1"),
        ("v.yml", b"- a: 2\n", "line 1"),
        ("v.yml", b"a:\n  b: 2\n", "line 1"),
        ("v.yml", b'"\\q": 2\n', "the escape .q is not known"),
        ("v.yml", b'"\\ud800": 2\n', "is no character"),
        ("v.yml", b"\xff: 2\n", "is not UTF-8"),
        ("v.json", b'{"a": "b"}', "must hold ids by word"),
        ("v.json", b'{"a": -1}', "must be at least 0"),
        ("v.json", b'{"a": 1', "is no JSON"),
        ("v.txt", b"</s>\n\n<unk>\n", "has an empty line"),
        ("v.spm", b"\x0a\x05ab", "truncated"),
        ("v.spm", b"\x0a\x00", "the piece at byte 0 has no string"),
    ],
)
def test_a_broken_vocabulary_is_refused(
    name: str, data: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelFormatError, match=f"{name}: .*{message}"):
        read_vocabulary(tmp_path / name, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beam-size: 2.5", "beam-size is 2.5, must be a whole number"),
        ("max-length-factor: 1.5", "max-length-factor is 1.5"),
        ("normalize: much", "normalize is 'much', must be a number"),
        ("word-penalty: 0.1", "word-penalty is 0.1: only 0 is read"),
        ("a: {b: 1}", "decoder.yml: line 1"),
    ],
)
def test_a_search_that_is_not_marians_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = model_file("s2s", tmp_path)
    (tmp_path / "m.npz.decoder.yml").write_text(text)
    with pytest.raises(ModelFormatError, match=f"^{path}.*{message}"):
        Engine.load(path)


# --- files without a configuration ---


def old_file(variant: str, folder: Path) -> Path:
    """As Nematus wrote it: no configuration, vectors of one dimension, what training left."""
    shapes = fixture()["variants"][variant]["shapes"]
    arrays = {
        name: array.reshape(-1) if array.shape[0] == 1 else array
        for name, array in make.weights(variant, shapes).items()
    }
    arrays |= {"decoder_c_tt": np.zeros(0, np.float32), "uidx": np.array(3)}
    np.savez(folder / "old.npz", **arrays, history_errs=np.zeros(4))
    return folder / "old.npz"


@pytest.mark.parametrize("variant", ["amun", "amun_norm", "nematus", "nematus_theano"])
def test_a_file_without_a_configuration_tells_by_its_weights(variant: str, tmp_path: Path) -> None:
    theirs = peer(variant)
    imported = open_foreign(old_file(variant, tmp_path), None, {})
    assert imported.importer.name == "marian"
    found = verify(imported.model, theirs, **theirs.runs)
    assert found.passed, str(found)
    with np.load(tmp_path / "old.npz") as file:
        assert verify(open_foreign(dict(file), None, {}).model, theirs, **theirs.runs).passed


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dropout": True}, "use_dropout with model_version 0, below 0.1"),
        ({"enc_depth": 2}, "enc_depth is 2; only 1 is read"),
        ({"output_hidden_activation": "relu"}, "only 'tanh' is read"),
        ({"factors": 2}, "factors is 2"),
        ([], "must hold an object"),
    ],
)
def test_the_configuration_of_nematus_is_read(config: Any, message: str, tmp_path: Path) -> None:
    path = old_file("nematus", tmp_path)
    beside = tmp_path / "old.npz.json"
    beside.write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match=message):
        Engine.load(path)
    beside.write_text(json.dumps({"model_version": 0.1, "use_dropout": True, "enc_depth": 1}))
    Engine.load(path).close()


# --- what is refused ---


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: s2s", "type: transformer", "is of type 'transformer'; recurrent models of types"),
        ("type: s2s", "type: char-s2s", "is of type 'char-s2s'"),
        ("type: s2s", "type: lm", "is of type 'lm'"),
        ("enc-cell: gru", "enc-cell: mlstm", "enc-cell is 'mlstm', which is not read: gru"),
        ("dec-cell: gru", "dec-cell: tanh", "dec-cell is 'tanh', which is not read"),
        ("enc-type: bidirectional", "enc-type: convolution", "enc-type is 'convolution'"),
        ("dec-cell-base-depth: 2", "dec-cell-base-depth: 1", "dec-cell-base-depth is 1"),
        ("enc-depth: 1", "enc-depth: 0", "enc-depth is 0, must be an integer of at least 1"),
        ("enc-depth: 1", "enc-depth: 999999", "enc-depth is 999999, at most 64"),
        ("dim-emb: 5", "dim-emb: x", "dim-emb is 'x', must be an integer"),
        ("skip: false", "skip: maybe", "skip is 'maybe', must be true or false"),
        ("right-left: false", "right-left: true", "writes from right to left"),
        ("ulr: false", "ulr: true", "universal language"),
        ("lemma-dim-emb: 0", "lemma-dim-emb: 8", "a factored vocabulary"),
        ("input-types:\n  []", "input-types: [class, sequence]", "only sequences are read"),
        ("  - 10\n  - 11", "  - 10\n  - 11\n  - 12", "models of several sources"),
        ("  - 10\n", "  - 12\n", r"encoder_Wemb has the shape \(10, 5\), .* \(12, 5\)"),
        ("dim-rnn: 6", "dim-rnn: 7", "has the shape"),
        ("enc-depth: 1", "enc-depth: 2", "is without encoder_bi_l2_cell1_U, "),
        ("enc-cell: gru", "enc-cell: lstm", "beyond what its configuration says|is without"),
        ("layer-normalization: false", "layer-normalization: true", "without decoder_att_gamma1"),
        ("tied-embeddings: false", "tied-embeddings: true", "beyond .* decoder_ff_logit_l2_Wt"),
    ],
)  # fmt: skip
def test_what_a_configuration_says_else_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    config = fixture()["variants"]["s2s"]["config"]
    assert old in config
    path = model_file("s2s", tmp_path, config=config.replace(old, new, 1))
    with pytest.raises(ModelFormatError, match=f"^{path}: .*(?:{message})"):
        Engine.load(path)


def changed(variant: str, folder: Path, **settings: str) -> Path:
    lines = fixture()["variants"][variant]["config"].split("\n")
    keys = {name.replace("_", "-"): value for name, value in settings.items()}
    lines = [f"{k}: {keys[k]}" if (k := line.split(":")[0]) in keys else line for line in lines]
    return model_file(variant, folder, config="\n".join(lines))


def test_students_mixed_norms_and_what_marian_cannot_run_are_refused(tmp_path: Path) -> None:
    student = {"type": "transformer", "transformer_decoder_autoreg": "rnn", "dec_cell": "ssru"}
    with pytest.raises(ModelFormatError, match=r"is a student: .* 'ssru' cells"):
        Engine.load(changed("s2s", tmp_path, **student))
    with pytest.raises(ModelFormatError, match="mixes two kinds of layer norm"):
        Engine.load(changed("cells", tmp_path, layer_normalization="true"))
    with pytest.raises(ModelFormatError, match="Marian itself cannot run"):
        Engine.load(changed("cells", tmp_path, dec_cell_high_depth="2"))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for weights, message in (
        ({"decoder_cell2_Wx": None}, "is without decoder_cell2_Wx"),
        ({"decoder_ff_logit_l2_Wt": None}, "has no matrix of the output, must have one of"),
        ({"encoder_bi_cell2_U": np.ones((6, 12), np.float32)}, "beyond .* encoder_bi_cell2_U"),
        ({"encoder_bi_U": np.ones((6, 6), np.float32)}, r"shape \(6, 6\), .* says \(6, 12\)"),
        ({"encoder_bi_U": np.ones((6, 12), np.int32)}, "of type int32, must be of real numbers"),
    ):
        path = model_file("s2s", tmp_path, **weights)
        with pytest.raises(ModelFormatError, match=f"^{path}: .*{message}"):
            Engine.load(path)
    with pytest.raises(InputError, match="has no option 'skip'"):
        Engine.load(DATA / "s2s.npz", skip=True)
    with pytest.raises(ModelFormatError, match="importer marian knows it: encoder_Wemb"):
        Engine.load({"x": np.ones(3)}, importer="marian")


# --- Marian itself ---


def test_the_fixture_is_what_was_recorded() -> None:
    for line in (DATA / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 100_000


def test_marian_gives_the_fixture_again(tmp_path: Path) -> None:
    pytest.importorskip("pymarian")
    make.prepare(tmp_path)
    for variant in VARIANTS:
        recorded = fixture()["variants"][variant]
        if variant in STORED:
            path = Path(shutil.copy(DATA / variant, tmp_path))
        else:
            path = model_file(variant, tmp_path)
        found = make.measure(recorded["flags"], tmp_path, path.name)
        for key, values in found.items():
            np.testing.assert_allclose(*(flat(one) for one in (values, recorded[key])), rtol=1e-5)


def flat(value: Any) -> list[float]:
    return [x for one in value for x in flat(one)] if isinstance(value, list) else [float(value)]


@pytest.mark.parametrize("variant", ["deep_lstm", "nematus_theano"])
def test_marian_verifies_a_conversion(variant: str, tmp_path: Path) -> None:
    pytest.importorskip("pymarian")
    imported = open_foreign(model_file(variant, tmp_path), None, {})
    found = verify(imported.model, imported.peer())
    assert found.passed and found.framework.startswith("pymarian "), str(found)
    imported = open_foreign(old_file("nematus_theano", tmp_path), None, {})
    assert verify(imported.model, imported.peer()).passed
    with pytest.raises(InputError, match="give the path of the model"):
        open_foreign((DATA / "nematus.bin").read_bytes(), None, {}).peer()
