"""The AllenNLP importer: archives made by AllenNLP 2.10.1 with what it computes, its own test
archives where they are there, and what is refused."""

from __future__ import annotations

import copy
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fixtures import same_arrays, script_of, sums_hold
from verified import Recorded, check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.checkpoint import read
from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.verification import verify

DATA = Path(__file__).parent / "data" / "allennlp"
SHARED = Path(os.environ.get("S2S_SHARED_DATA", "-")) / "allennlp"
with_data = pytest.mark.skipif(not SHARED.is_dir(), reason="S2S_SHARED_DATA names no such folder")
MODELS = ("bilinear", "linear", "composed")
TARGET = ["@@PADDING@@", "@@UNKNOWN@@", "@start@", "@end@", *"ABCDE"]


def recorded(name: str) -> Recorded:
    with np.load(DATA / "outputs.npz") as file:
        prefix = f"{name}/"
        arrays = {n[len(prefix) :]: file[n] for n in file.files if n.startswith(prefix)}
    return Recorded("allennlp 2.10.1", arrays)


def members(path: Path) -> dict[str, bytes]:
    return dict(read(path).content)


def write(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def changed(
    name: str, path: Path, change: Callable[[dict[str, Any]], None], **files: bytes | None
) -> Path:
    """An archive with another configuration, and other files by name with / written as __."""
    held = members(DATA / f"{name}.tar.gz")
    config = json.loads(held["config.json"])
    change(config)
    held["config.json"] = json.dumps(config).encode()
    for key, data in files.items():
        file = key.replace("__", "/") + ".txt"
        if data is None:
            del held[file]
        else:
            held[file] = data
    return write(path, held)


@pytest.mark.parity("torch")
@pytest.mark.parametrize("name", MODELS)
def test_archives_of_2_10_are_pytorchs_modules(name: str) -> None:
    imported = check(DATA / f"{name}.tar.gz", "allennlp")
    model = imported.model
    assert (model.start, model.end, model.source.unknown) == (2, (3,), 1)
    assert list(model.vocabularies["target"]) == TARGET
    framed = ((2,), (3,)) if name != "linear" else ((), ())
    assert (model.source.prepend, model.source.append) == framed


def compare(model: Any, peer: Recorded) -> None:
    """Values under teacher forcing, and the best of its own beam search."""
    found = verify(model, peer, **peer.runs)
    assert found.passed, str(found)
    with Engine.load(model) as engine:
        for case in peer.cases:
            best = engine.decode(inputs=peer.inputs(case), prepared=True).hypotheses[0]
            ids = [*best.ids, *([3] if best.finish_reason == "eos" else [])]
            assert ids == peer.arrays[f"{case}/beam"].tolist()
            assert abs(best.score - peer.arrays[f"{case}/score"]) <= 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_archives_of_2_10_give_what_it_computes(name: str) -> None:
    compare(open_foreign(DATA / f"{name}.tar.gz", None, {}).model, recorded(name))


def test_the_fixtures_are_those_that_were_made() -> None:
    sums_hold(DATA)


# --- where AllenNLP is installed ---


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    made = script_of(DATA / "make.py", "allennlp_models")
    pytest.importorskip("torch").manual_seed(1)
    return made


@pytest.mark.filterwarnings("ignore")
def test_the_fixtures_can_be_made_again(maker: ModuleType, tmp_path: Path) -> None:
    maker.make(tmp_path)
    same_arrays(tmp_path / "outputs.npz", DATA / "outputs.npz")


@pytest.mark.filterwarnings("ignore")
def test_every_branch_computes_what_allennlp_does(maker: ModuleType) -> None:
    for name, config in maker.MORE.items():
        for seed in range(3):
            model = maker.built(config)
            peer = Recorded(name, maker.record(model, config, seed=seed))
            imported = open_foreign(maker.archive(model, config), None, {})
            own = verify(imported.model, imported.peer())
            assert own.passed, f"{name}: {own}"
            compare(imported.model, peer)


# --- what a configuration says ---


@pytest.mark.parity("torch")
def test_the_folder_of_an_archive_is_the_same_model(tmp_path: Path) -> None:
    for name, data in members(DATA / "composed.tar.gz").items():
        path = tmp_path / name.replace("weights.th", "best.th")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    model, packed = (
        open_foreign(one, None, {}).model for one in (tmp_path, DATA / "composed.tar.gz")
    )
    assert model.graphs == packed.graphs and model.vocabularies == packed.vocabularies
    assert model.generation == packed.generation and model.source == packed.source


def generation(tmp_path: Path, search: dict[str, Any] | None, **options: Any) -> dict[str, Any]:
    def change(config: dict[str, Any]) -> None:
        del config["model"]["beam_search"]
        config["model"].update(search or {})

    path = changed("bilinear", tmp_path / "m.tar.gz", change)
    found = dict(open_foreign(path, None, options).model.generation)
    assert found.pop("search") == {"ended": "stay", "stop": "empty", "limit": "compete"}
    return found


def test_the_search_is_that_of_the_configuration(tmp_path: Path) -> None:
    of = lambda **options: {"beam_search": options}  # noqa: E731
    assert generation(tmp_path, None) == {"beam_size": 10, "max_length": 50}
    old = {"beam_size": 3, "max_decoding_steps": 7}
    assert generation(tmp_path, old) == {"beam_size": 3, "max_length": 7}
    assert generation(tmp_path, {"max_decoding_steps": 7}) == {"beam_size": 1, "max_length": 7}
    scorer = {"type": "length-normalized-sequence-log-prob"}
    found = generation(tmp_path, of(final_sequence_scorer=scorer, min_steps=2, beam_size=4))
    assert found == {"beam_size": 4, "max_length": 50, "length_penalty": 1.0, "min_length": 3}
    for name, value in {
        "per_node_beam_size": 2, "sampler": {"type": "top-k"}, "constraints": [{"type": "x"}],
        "final_sequence_scorer": {"type": "mine"}, "min_steps": 50,
    }.items():  # fmt: skip
        with pytest.raises(
            InputError, match=r"needs the option plain_search .* changes the search"
        ):
            generation(tmp_path, of(**{name: value}))
        with pytest.raises(ModelFormatError, match=f"its search sets {name}, which are not built"):
            generation(tmp_path, of(**{name: value}), plain_search=False)
        assert generation(tmp_path, of(**{name: value}), plain_search=True)["max_length"] == 50


def rule(tmp_path: Path, change: Callable[[dict[str, Any]], None], **options: Any) -> Any:
    path = changed("bilinear", tmp_path / "m.tar.gz", change)
    return open_foreign(path, None, options).model.source


def reader(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["dataset_reader"].update(values)


def test_sources_are_made_as_the_reader_makes_them(tmp_path: Path) -> None:
    found = rule(tmp_path, reader(source_add_start_token=False))
    assert (found.prepend, found.append) == ((), (3,))
    found = rule(tmp_path, reader(source_add_end_token=False, source_max_tokens=5))
    assert (found.prepend, found.append, found.truncate) == ((2,), (), 6)
    found = rule(tmp_path, reader(start_symbol="a", end_symbol="never seen"))
    assert (found.prepend, found.append) == ((4,), (1,))
    with pytest.raises(InputError, match=r"needs the option full_sources .* changes long sources"):
        rule(tmp_path, reader(source_max_tokens=5))
    assert rule(tmp_path, reader(source_max_tokens=5), full_sources=True).truncate is None
    indexers = {"tokens": {"namespace": "source", "lowercase_tokens": True}}
    with pytest.raises(InputError, match=r"needs the option lowercased .* which words are known"):
        rule(tmp_path, reader(source_token_indexers=indexers))
    assert rule(tmp_path, reader(source_token_indexers=indexers), lowercased=True).append == (3,)
    with pytest.raises(InputError, match=r"needs the option source_start .*whether @start@ stands"):
        rule(tmp_path, reader(type="mine"))
    found = rule(tmp_path, reader(type="mine"), source_start=False, source_end=True)
    assert (found.prepend, found.append) == ((), (3,))


def test_namespaces_may_be_unpadded_and_have_other_special_words(tmp_path: Path) -> None:
    lines = "\n".join(["UNK", "@start@", "@end@", *"ABCDE"]) + "\r\n"

    def change(config: dict[str, Any]) -> None:
        config["vocabulary"] = {"padding_token": "PAD", "oov_token": "UNK"}

    path = changed(
        "bilinear", tmp_path / "m.tar.gz", change, vocabulary__target=lines.encode(),
        vocabulary__source=b"UNK\n@start@\n@end@\na\n@@NEWLINE@@\nc\nd\ne\nf\ng",
    )  # fmt: skip
    model = open_foreign(path, None, {}).model
    assert list(model.vocabularies["target"]) == ["PAD", "UNK", *TARGET[2:]]
    assert model.vocabularies["tokens"][:6] == ("PAD", "UNK", "@start@", "@end@", "a", "\n")
    assert model.source.unknown == 1
    lines = "\n".join(["@start@", "@end@", *"ABCDEFG"])
    path = changed(
        "bilinear", path, lambda _: None, vocabulary__target=lines.encode(),
        vocabulary__non_padded_namespaces=b"*tags\ntar*\ntarget\n",
    )  # fmt: skip
    model = open_foreign(path, None, {}).model
    assert (model.start, model.end) == (0, (1,))


# --- what is refused ---


def model_with(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["model"].update(values)


def inner(*keys: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in keys:
            config = config[key]
        config.update(copy.deepcopy(values))

    return change


TABLES = ("model", "source_embedder", "token_embedders", "tokens")
NET = ("model", "decoder", "decoder_net")
REFUSED = [
    ("bilinear", model_with(type="copynet_seq2seq"), "the type of model is 'copynet_seq2seq'"),
    ("bilinear", model_with(attention={"type": "cosine"}), "type of attention is 'cosine'"),
    ("bilinear", model_with(attention={"type": "legacy"}), "type of attention is 'legacy'"),
    ("bilinear", model_with(attention="additive"), "knows it: _attention._u_matrix"),
    ("bilinear", model_with(attention=None), "sizes|weights|linear|lstm_cell"),
    ("bilinear", model_with(attention_function={"type": "x"}), "attention_function is a dict"),
    ("bilinear", inner("model", "attention", activation="gelu"), "an activation is 'gelu'"),
    ("bilinear", inner("model", "encoder", type="gated-cnn-encoder"), "encoder is 'gated-cnn"),
    ("bilinear", inner("model", "encoder", stateful=True), "stateful of an encoder is True"),
    ("bilinear", inner("model", "beam_search", max_steps=0), "max_steps of the search is 0"),
    ("bilinear", inner("model", "beam_search", max_steps="x"), "max_steps of the search is 'x'"),
    ("bilinear", inner(*TABLES, type="character_encoding"), "'tokens' is 'character_enc"),
    ("bilinear", inner(*TABLES, max_norm=1.0), "max_norm of token embedder 'tokens' is 1.0"),
    ("bilinear", model_with(target_namespace="pos"), "vocabulary has 4 strings, must have 9"),
    ("bilinear", model_with(target_namespace="none"), "0 words has no '@start@'"),
    ("bilinear", reader(source_token_indexers={"words": {}}), "no weight _source_embedder.token_e"),
    ("bilinear", reader(source_token_indexers={"tokens": {}}), "has no vocabulary/tokens.txt"),
    ("bilinear", reader(source_token_indexers={"tokens": {"type": "characters"}}), "'characters'"),
    ("bilinear", reader(source_token_indexers={"tokens": {"end_tokens": ["x"]}}), "end_tokens of"),
    ("bilinear", reader(source_token_indexers={"t": {"feature_name": "pos_"}}), "0 index words"),
    ("linear", inner("model", "attention", combination="x/y,y"), "linear attention combines 'x/y'"),
    ("linear", inner("model", "attention", combination="x,y"), "takes 12 weights, not 18"),
    ("linear", inner("model", "attention", combination="x,y,x,y"), "need others|takes 24 weights"),
    ("composed", inner("model", "decoder", type="mine"), "the type of model.decoder is 'mine'"),
    ("composed", inner(*NET, type="stacked_self_attention"), "decoder_net is 'stacked_self_atten"),
    ("composed", inner("model", "encoder", nonlinearity="sin"), "of an encoder is 'sin'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_what_is_not_read_is_named(
    name: str, change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    path = changed(name, tmp_path / "m.tar.gz", change)
    with pytest.raises((ModelFormatError, InputError), match=message) as caught:
        Engine.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parity("torch")
def test_weights_that_nobody_reads_and_missing_ones_are_named(tmp_path: Path) -> None:
    import torch

    held = members(DATA / "bilinear.tar.gz")
    weights = torch.load(io.BytesIO(held["weights.th"]))

    def load(change: Callable[[Any], object], message: str) -> None:
        copied, packed = dict(weights), io.BytesIO()
        change(copied)
        torch.save(copied, packed)
        path = write(tmp_path / "m.tar.gz", {**held, "weights.th": packed.getvalue()})
        with pytest.raises((ModelFormatError, InputError), match=message):
            Engine.load(path)

    load(lambda w: w.update(extra=torch.ones(2)), "holds weights .* has: extra")
    load(lambda w: w.pop("_decoder_cell.weight_hh"), "_decoder_cell|weight_hh")
    load(lambda w: w.pop("_encoder._module.weight_hh_l0_reverse"), "weight_hh")
    load(lambda w: w.update({"_target_embedder.weight": torch.ones(9, 3)}), "must|size|shape|are")


def test_broken_files_are_named(tmp_path: Path) -> None:
    held = members(DATA / "bilinear.tar.gz")
    for config, message in (
        (b"{", "config.json is no JSON"),
        (b"[" * 100_000, "config.json is no JSON"),
        (b"[]", "has no object 'model'"),
        (b'{"model": {}}', "the type of model is None"),
    ):
        path = write(tmp_path / "m.tar.gz", {**held, "config.json": config})
        with pytest.raises(ModelFormatError, match=message):
            Engine.load(path)
    path = write(tmp_path / "m.tar.gz", {**held, "vocabulary/target.txt": b"\xff"})
    with pytest.raises(ModelFormatError, match=r"'vocabulary/target\.txt' is no UTF-8"):
        Engine.load(path)
    path = write(tmp_path / "m.tar.gz", {"config.json": b"{}"})
    with pytest.raises(ModelFormatError, match=r"holds no config\.json and weights\.th"):
        Engine.load(path, importer="allennlp")


# --- its own test archives ---


@with_data
def test_the_recorded_outputs_of_its_own_archive() -> None:
    names = {"tokens": "tokens", "pos_tags": "pos", "ner_tags": "ner", "dependency_label": "dep"}
    records = [
        json.loads(line) for line in (SHARED / "expected_simple.jsonl").read_text().splitlines()
    ]
    assert len(records) == 3
    with Engine.load(SHARED / "simple.tar.gz") as engine:
        assert engine.info.vocabularies["ner_tags"] == ("@@PADDING@@", "@@UNKNOWN@@", "", "NONE")
        for record in records:
            inputs = {name: record[key] for name, key in names.items()}
            assert engine.decode(inputs=inputs, beam_size=1).ids == record["greedy_ids"]
            found = engine.decode(inputs=inputs)  # its configuration says 5
            assert found.ids == record["beam5"][0]["ids"]
            assert abs(found.score - record["beam5"][0]["score"]) <= 1e-4
            logits = engine.forced_logits(None, record["greedy_ids"][:-1], inputs=inputs)
            log_probs = logits - np.log(np.exp(logits.astype(float)).sum(1, keepdims=True))
            expected = np.array(record["greedy_logprobs"])
            assert np.abs(log_probs[: len(expected)] - expected).max() <= 1e-5


@with_data
@pytest.mark.parity("torch")
@pytest.mark.parametrize("name", ["simple", "composed"])
def test_its_own_archives_are_pytorchs_modules(name: str) -> None:
    check(SHARED / f"{name}.tar.gz", "allennlp")
