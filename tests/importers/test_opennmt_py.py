"""The OpenNMT-py importer: checkpoints made by OpenNMT-py 3.5.1 with what it computes, the forms of
earlier eras, its own test model where it is there, and what is refused."""

from __future__ import annotations

import copy
import json
import lzma
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fixtures import same_arrays, script_of, sums_hold
from verified import Recorded, check

from s2s_engine import DecodeOptions, Engine, InputError, ModelFormatError
from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.verification import verify

DATA = Path(__file__).parent / "data" / "opennmt_py"
SHARED = Path(os.environ.get("S2S_SHARED_DATA", "-")) / "opennmt_g2p"
with_data = pytest.mark.skipif(not SHARED.is_dir(), reason="S2S_SHARED_DATA names no such folder")
MODELS = ("general", "mlp", "coverage", "none")
LIMITS: dict[str, Any] = {"beam_size": 4, "max_length": 12, "length_penalty": 0.0}


def recorded(name: str) -> Recorded:
    with np.load(DATA / "outputs.npz") as file:
        prefix = f"{name}/"
        arrays = {n[len(prefix) :]: file[n] for n in file.files if n.startswith(prefix)}
    return Recorded("OpenNMT-py 3.5.1", arrays)


def saved(name: str = "general") -> Any:
    """What torch.load gives of a checkpoint of this folder."""
    torch = pytest.importorskip("torch")
    return torch.load(DATA / f"{name}.pt", weights_only=False)


def write(content: Any, path: Path, **options: Any) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(content, path, **options)
    return path


@pytest.mark.parity("torch")
@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_of_3_5_are_pytorchs_modules(name: str) -> None:
    imported = check(DATA / f"{name}.pt", "opennmt_py")
    model = imported.model
    assert (model.start, model.end, model.source.unknown) == (2, (3,), 0)
    assert list(model.vocabularies["target"]) == ["<unk>", "<blank>", "<s>", "</s>", *"ABCDE"]
    features = {n for n in model.graphs["encoder"].inputs if n.startswith("src_feat_")}
    assert features == ({"src_feat_0", "src_feat_1"} if name == "mlp" else set())


@pytest.mark.parametrize("name", MODELS)
def test_checkpoints_of_3_5_give_what_it_computes(name: str) -> None:
    peer = recorded(name)
    model = open_foreign(DATA / f"{name}.pt", None, {}).model
    found = verify(model, peer, **peer.runs)
    assert found.passed, str(found)
    with Engine.load(model) as engine:
        for case in peer.cases:
            result = engine.decode(inputs=peer.inputs(case), **LIMITS)
            best = result.hypotheses[0]
            ended = [3] if best.finish_reason == "eos" else []
            assert [*best.ids, *ended] == peer.arrays[f"{case}/beam"].tolist()
            assert abs(best.score - peer.arrays[f"{case}/score"]) <= 1e-4


def searches() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(lzma.decompress((DATA / "searches.json.xz").read_bytes()))
    return read


# The settings of make.py in words of ours: min_length leaves the end out.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"length_penalty": 0.7, "length_penalty_kind": "gnmt"},
    {"num_hypotheses": 4, "beam_size": 5, "min_length": 3, "max_length": 9},
]


@pytest.mark.parametrize("name", MODELS)
def test_searches_by_the_defaults_are_those_of_translate_py(name: str) -> None:
    """Twelve sources, each without an option, with another penalty, and for an n-best list."""
    with Engine.load(DATA / f"{name}.pt") as engine:
        agrees(engine, searches()[name], SETTINGS)


def agrees(
    engine: Engine, expected: Sequence[dict[str, Any]], settings: Sequence[dict[str, Any]]
) -> None:
    """The ids of whole n-best lists with their ends, and their scores."""
    assert expected
    for one in expected:
        result = engine.decode(inputs=one["inputs"], **settings[one["setting"]])
        found = [[*h.ids, *([3] if h.finish_reason == "eos" else [])] for h in result.hypotheses]
        assert found == [ids for ids, _ in one["found"]]
        for h, (_, score) in zip(result.hypotheses, one["found"], strict=True):
            assert abs(h.score - score) <= 1e-4


def test_what_the_defaults_of_each_version_are(tmp_path: Path) -> None:
    model = open_foreign(DATA / "general.pt", None, {}).model
    limit = {"numerator": 5, "denominator": 4, "addend": 5, "most": 250}
    assert model.generation == {
        "beam_size": 5, "max_length": limit, "search": {"ended": "place", "stop": "head"},
        "length_penalty": 1.0, "length_penalty_offset": 1,
    }  # fmt: skip
    assert [DecodeOptions(max_length=limit).limit(n) for n in (1, 4, 7, 500)] == [6, 10, 13, 250]
    older = saved()
    del older["opt"].num_experts
    model = open_foreign(write(older, tmp_path / "3.0.pt"), None, {}).model
    assert (model.generation["max_length"], model.generation["search"]["stop"]) == (250, "both")


def test_the_fixtures_are_those_that_were_made() -> None:
    sums_hold(DATA)


# --- where OpenNMT-py is installed ---


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    made = script_of(DATA / "make.py", "onmt")
    pytest.importorskip("torch").manual_seed(1)
    return made


@pytest.mark.filterwarnings("ignore")
def test_the_fixtures_can_be_made_again(maker: ModuleType, tmp_path: Path) -> None:
    maker.make(tmp_path)
    same_arrays(tmp_path / "outputs.npz", DATA / "outputs.npz")


COMBINATIONS = [
    {
        "rnn_type": cell, "brnn": both, "layers": layers, "global_attention": attention,
        "input_feed": int(fed), "bridge": bridge, **more,
    }
    for cell, both, layers, attention, fed, bridge, more in [
        ("LSTM", False, 1, "dot", True, False, {}),
        ("LSTM", True, 1, "general", False, True, {"context_gate": "source"}),
        ("LSTM", True, 2, "mlp", True, True, {"share_decoder_embeddings": True}),
        ("LSTM", False, 2, "none", False, False, {}),
        ("LSTM", True, 2, "dot", False, False, {"features": 1, "feat_merge": "mlp"}),
        ("LSTM", False, 2, "mlp", True, False, {"coverage_attn": True}),
        ("LSTM", True, 1, "general", True, False, {"coverage_attn": True}),
        ("LSTM", False, 1, "general", True, True, {"context_gate": "target"}),
        ("GRU", False, 1, "general", True, True, {"features": 2, "feat_merge": "sum"}),
        ("GRU", True, 2, "dot", True, True, {"context_gate": "both"}),
        ("GRU", True, 1, "mlp", True, False, {}),
        ("GRU", True, 2, "none", True, True, {}),
        ("GRU", False, 2, "general", False, False, {"context_gate": "both"}),
        ("GRU", False, 2, "mlp", False, True, {}),
        ("GRU", True, 2, "mlp", False, True, {}),
        ("RNN", True, 2, "general", True, True, {}),
        ("RNN", False, 1, "dot", True, False, {}),
        ("LSTM", True, 3, "general", True, True, {"enc_layers": 3, "dec_layers": 2}),
    ]
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "given", COMBINATIONS, ids=lambda given: "-".join(map(str, given.values()))
)
def test_every_branch_computes_what_openNMT_does(
    maker: ModuleType, tmp_path: Path, given: dict[str, Any]
) -> None:
    if given.get("feat_merge") == "sum":
        given = {**given, "src_word_vec_size": 6}
    content = maker.checkpoint(**given)
    peer = Recorded("OpenNMT-py", maker.record(content, seed=2))
    model = open_foreign(write(content, tmp_path / "model.pt"), None, {}).model
    found = verify(model, peer, **peer.runs)
    assert found.passed, str(found)
    with Engine.load(model) as engine:
        for case in peer.cases:
            best = engine.decode(inputs=peer.inputs(case), **LIMITS).hypotheses[0]
            ids = [*best.ids, *([3] if best.finish_reason == "eos" else [])]
            assert ids == peer.arrays[f"{case}/beam"].tolist()
            assert abs(best.score - peer.arrays[f"{case}/score"]) <= 1e-4
        agrees(engine, maker.searches(content, seed=3), SETTINGS)


# --- containers and eras ---


@pytest.mark.parity("torch")
def test_weights_may_stand_in_a_safetensors_file_beside(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    content = saved()
    weights = content.pop("model") | {
        f"generator.{name}": t for name, t in content.pop("generator").items()
    }
    save_file({n: t.numpy() for n, t in weights.items()}, tmp_path / "m_step_5.safetensors")
    with pytest.raises(
        ModelFormatError, match=r"the options .* m_step_5\.pt that OpenNMT-py wrote"
    ):
        Engine.load(tmp_path / "m_step_5.safetensors")
    write(content, tmp_path / "m_step_5.pt")
    models = [open_foreign(DATA / "general.pt", None, {}).model]
    models += [
        open_foreign(tmp_path / f"m_step_5.{suffix}", None, {}).model
        for suffix in ("pt", "safetensors")
    ]
    for model in models[1:]:
        assert model.graphs == models[0].graphs and model.vocabularies == models[0].vocabularies
        assert all(np.array_equal(model.tensors[n], a) for n, a in models[0].tensors.items())
    (tmp_path / "m_step_5.safetensors").unlink()
    with pytest.raises(
        ModelFormatError, match=r"the weights are in the file m_step_5\.safetensors"
    ):
        Engine.load(tmp_path / "m_step_5.pt")
    with pytest.raises(ModelFormatError, match=r"the weights are in the file \*\.safetensors"):
        Engine.load((tmp_path / "m_step_5.pt").read_bytes())


@pytest.fixture
def torchtext() -> Iterator[dict[str, type]]:
    """Classes that pickle under the names of those that old checkpoints hold."""
    names = {
        "Vocab": "torchtext.vocab", "Field": "torchtext.data.field",
        "TextMultiField": "onmt.inputters.text_dataset",
    }  # fmt: skip
    parts = {
        ".".join(n.split(".")[: k + 1]) for n in names.values() for k in range(n.count(".") + 1)
    }
    before = {name: sys.modules.get(name) for name in parts}
    sys.modules |= {name: ModuleType(name) for name in parts}
    made = {}
    for name, module in names.items():
        made[name] = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, made[name])
    yield made
    for name, module in before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module


def thing(kind: type, **members: Any) -> Any:
    made = kind()
    vars(made).update(members)
    return made


def of_era(era: str, kinds: dict[str, type], name: str = "mlp") -> Any:
    """A checkpoint of 3.5 as an earlier release wrote it."""
    content = saved(name)
    old = content["vocab"]
    words = {"src": old["src"], "tgt": old["tgt"]}
    feats = {f"src_feat_{n}": one for n, one in enumerate(old.get("src_feats", []))}
    vocabs = {n: thing(kinds["Vocab"], itos=w) for n, w in (words | feats).items()}
    if era == "0.x":
        content["vocab"] = list(vocabs.items())
    else:
        fields = {n: thing(kinds["Field"], vocab=v, init_token="<s>") for n, v in vocabs.items()}
        content["vocab"] = {
            side: thing(
                kinds["TextMultiField"],
                fields=[(side, fields[side]), *((n, fields[n]) for n in feats if side == "src")],
            )
            for side in ("src", "tgt")
        }
        content["vocab"]["indices"] = thing(kinds["Field"], use_vocab=False)
    content["generator"] = {f"0.{n}": t for n, t in content["generator"].items()}
    for option in ("model_task", "lora_layers", "quant_layers", "dec_hid_size"):
        vars(content["opt"]).pop(option)
    return content


@pytest.mark.parity("torch")
@pytest.mark.parametrize("era", ["0.x", "2.x"])
@pytest.mark.parametrize("name", ["general", "mlp"])
def test_earlier_eras_are_the_same_model(
    era: str, name: str, torchtext: dict[str, type], tmp_path: Path
) -> None:
    legacy = {"_use_new_zipfile_serialization": False} if era == "0.x" else {}
    path = write(of_era(era, torchtext, name), tmp_path / "model.pt", **legacy)
    model, new = (open_foreign(one, None, {}).model for one in (path, DATA / f"{name}.pt"))
    assert model.graphs == new.graphs and model.vocabularies == new.vocabularies
    assert model.generation["max_length"] == 100
    assert model.generation.get("length_penalty", 0.0) == 0.0
    assert ("early_stop" in model.generation) is (era == "0.x")


@pytest.mark.parity("torch")
def test_ids_are_those_of_the_vocabularies(tmp_path: Path) -> None:
    content = saved()
    vocab = content["vocab"]
    vocab["tgt"] = ["</s>", "A", "<s>", "<unk>", "B", "C", "D", "E", "<blank>"]
    vocab["src"] = [*vocab["src"][4:], *vocab["src"][:4]]
    vocab["decoder_start_token"] = "</s>"
    model = open_foreign(write(content, tmp_path / "m.pt"), None, {}).model
    assert (model.start, model.end, model.source.unknown) == (0, (0,), 7)
    vocab["src"] = [f"w{n}" for n in range(11)]
    model = open_foreign(write(content, tmp_path / "m.pt"), None, {}).model
    assert model.source.unknown is None


# --- what is refused ---


def with_option(name: str, value: Any) -> Callable[[Any], None]:
    return lambda content: setattr(content["opt"], name, value)


def with_weight(part: str, name: str, shape: tuple[int, ...]) -> Callable[[Any], None]:
    import torch

    def change(content: Any) -> None:
        content[part][name] = torch.ones(shape)

    return change


def with_vocab(**changed: Any) -> Callable[[Any], None]:
    return lambda content: content["vocab"].update(changed)


def without(part: str, name: str) -> Callable[[Any], None]:
    return lambda content: content[part].pop(name)


TABLE = "embeddings.make_embedding.emb_luts.1.weight"
REFUSED: list[tuple[Callable[[], Callable[[Any], None]], str]] = [
    (lambda: with_option("encoder_type", "transformer"), "encoder_type is 'transformer', must be"),
    (lambda: with_option("encoder_type", "mean"), "encoder_type is 'mean', must be 'rnn' or"),
    (lambda: with_option("decoder_type", "cnn"), "decoder_type is 'cnn', must be 'rnn'"),
    (lambda: with_option("model_type", "audio"), "model_type is 'audio', must be 'text'"),
    (lambda: with_option("rnn_type", "SRU"), "rnn_type is 'SRU', must be"),
    (lambda: with_option("copy_attn", True), "copy_attn is True, must be False"),
    (lambda: with_option("global_attention_function", "sparsemax"), "is 'sparsemax', must be"),
    (lambda: with_option("generator_function", "sparsemax"), "generator_function is 'sparsemax'"),
    (lambda: with_option("position_encoding", True), "position_encoding is True"),
    (lambda: with_option("context_gate", ["both"]), "context_gate is a list, must be None or"),
    (lambda: with_option("context_gate", None), "weights that no model .*context_gate.gate.bias"),
    (lambda: with_option("global_attention", "mlp"), "is 'mlp', but its weights are .* general"),
    (lambda: with_vocab(data_task="lm"), r"a language model \(data_task 'lm'\)"),
    (lambda: with_vocab(tgt=["a"] * 9), "no '<s>', which begins every output: give the voc"),
    (lambda: with_vocab(src=["a"]), "the source vocabulary has 1 strings, must have 11"),
    (lambda: with_weight("model", f"decoder.{TABLE}", (3, 2)), "holds weights .*emb_luts.1.weight"),
    (lambda: with_weight("model", "encoder.rnn.lora_A", (3, 2)), "holds weights .*rnn.lora_A"),
    (lambda: with_weight("generator", "bias", (3,)), "bias .*3"),
    (lambda: with_weight("model", "decoder.attn.linear_out.weight", (6, 11)), "linear"),
    (lambda: without("generator", "weight"), "knows it: generator.0.weight"),
    (lambda: without("model", "encoder.rnn.weight_hh_l1"), "weight_hh"),
    (lambda: without("model", "encoder.bridge.1.weight"), "bridge.1.weight"),
    (lambda: with_weight("model", "encoder.rnn.weight_hh_l1", (12,)), r"the shape \(12,\), must"),
    (lambda: with_weight("model", "encoder.rnn.weight_hh_l0", (6, 3)), r"must be \(4H, H\), \(3H"),
    (lambda: without("model", "decoder.rnn.layers.0.weight_ih"), "knows it: decoder.rnn.weight_ih"),
    (lambda: lambda content: content.update(opt={}), "its opt is no argparse.Namespace"),
    (lambda: lambda content: content.update(opt=Namespace()), "its opt is empty"),
]  # fmt: skip


@pytest.mark.parity("torch")
@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_is_not_read_is_named(
    change: Callable[[], Callable[[Any], None]], message: str, tmp_path: Path
) -> None:
    content = copy.deepcopy(saved())
    change()(content)
    path = write(content, tmp_path / "model.pt")
    with pytest.raises((ModelFormatError, InputError), match=message) as caught:
        Engine.load(path, importer="opennmt_py")
    assert str(path) in str(caught.value)


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="has no option 'reverse'; its options are source_vocab"):
        Engine.load(DATA / "none.pt", reverse=True)
    with pytest.raises(ModelFormatError, match="holds no opt and vocab"):
        Engine.load({"a": np.ones(3, np.float32)}, importer="opennmt_py")
    listed = [f"t{n}" for n in range(7)] + ["<s>", "</s>"]
    model = open_foreign(DATA / "none.pt", None, {"target_vocabulary": listed}).model
    assert (model.start, model.end) == (7, (8,))


# --- its own test model ---


@with_data
@pytest.mark.parametrize(("beam_size", "key"), [(10, "beam10"), (1, "greedy")])
def test_all_expected_words(beam_size: int, key: str) -> None:
    lines = (SHARED / "expected_scores.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    with Engine.load(SHARED / "test_model2.pt") as engine:
        results = [
            engine.decode(list(one["src"].replace(" ", "")), beam_size=beam_size)
            for one in expected
        ]
    assert len(expected) == 198
    for one, result in zip(expected, results, strict=True):
        assert " ".join(result.tokens) == one[key], one["src"]
        assert abs(result.score - one[f"{key}_score"]) <= 1e-3


@with_data
@pytest.mark.parity("torch")
def test_its_own_test_model_is_pytorchs_modules() -> None:
    imported = check(SHARED / "test_model2.pt", "opennmt_py")
    assert imported.model.generation["max_length"] == 100
    assert "ш" in imported.model.vocabularies["tokens"]
