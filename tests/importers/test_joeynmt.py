"""The Joey NMT importer against its own modules and search (recorded) and torch.nn."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures import sums_hold
from packed import part, unpack
from verified import Recorded, check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.verification import verify

FOLDER = Path(__file__).parent / "data" / "joeynmt"
ARRAYS, FACTS = unpack(FOLDER / "joeynmt.npz")
FAILING = ("one direction", "relu")
CASES = [name for name in FACTS if name not in FAILING]
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity("torch")
Config = dict[str, Any]


def config(name: str) -> Config:
    data = {"src": {"lang": "de", "level": "word"}, "trg": {"lang": "en", "level": "word"}}
    testing = {"beam_size": 4, "beam_alpha": -1, "max_output_length": 9}
    return {"joeynmt_version": "2.3.0", "data": data, "testing": testing, **model(name)}


def model(name: str) -> Config:
    return {"model": json.loads(json.dumps(FACTS[name]["model"]))}


def yaml(value: Config, indent: int = 0) -> str:
    """The mapping in the form that read_yaml takes; null stands for None."""
    lines = []
    for key, held in value.items():
        if isinstance(held, dict):
            lines.append(f"{' ' * indent}{key}:\n{yaml(held, indent + 4)}")
        else:
            lines.append(f"{' ' * indent}{key}: {json.dumps(held)}\n")
    return "".join(lines)


def weights(name: str) -> dict[str, Any]:
    return {n: torch.from_numpy(a.copy()) for n, a in part(ARRAYS, f"{name}/weights").items()}


def written(
    folder: Path,
    name: str = "gru_bahdanau",
    edit: Callable[[dict[str, Any], Config], None] | None = None,
    *,
    configured: bool = True,
) -> Path:
    state, settings = weights(name), config(name)
    if edit is not None:
        edit(state, settings)
    path = folder / "best.ckpt"
    torch.save({"model_state": state, "optimizer_state": {}, "stats_state": {}}, path)
    if configured:
        (folder / "config.yaml").write_text(yaml(settings))
    return path


def recorded(name: str) -> Recorded:
    prefix = f"{name}/"
    cases = {n.removeprefix(prefix): a for n, a in ARRAYS.items() if n.startswith(prefix)}
    return Recorded(
        "Joey NMT 2.3.0", {n: a for n, a in cases.items() if not n.startswith("weights/")}
    )


# --- the networks ---


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_joey_nmt(tmp_path: Path, name: str) -> None:
    imported = open_foreign(written(tmp_path, name), None, {})
    assert imported.importer.name == "joeynmt"
    theirs = recorded(name)
    found = verify(imported.model, theirs, **theirs.runs)
    assert found.passed and found.inputs == 3, str(found)
    made = imported.model
    assert (made.start, made.end, made.source.append, made.source.unknown) == (2, (3,), (3,), 0)


@pytest.mark.parametrize("name", CASES)
def test_every_value_is_that_of_pytorchs_modules(tmp_path: Path, name: str) -> None:
    check(written(tmp_path, name), "joeynmt")


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_scores_are_those_of_its_search(tmp_path: Path, name: str) -> None:
    with Engine.load(written(tmp_path, name)) as engine:
        for one in FACTS[name]["found"]:
            given = engine.decode(
                [4 + int(word[1:]) for word in one["source"]],
                beam_size=one["beam"],
                length_penalty=max(0.0, one["alpha"]),
                length_penalty_kind="gnmt",
            )
            ended = 3 in one["ids"]
            assert [*given.ids, *([3] if ended else [])] == one["ids"]
            assert given.score == pytest.approx(one["score"], abs=1e-4)


# The settings of make.py; without max_output_length the limit is that of the model.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"beam_size": 4},
    {"beam_size": 4, "length_penalty": 1.0},
    {"beam_size": 5, "length_penalty": 0.6, "num_hypotheses": 3},
    {"beam_size": 3, "length_penalty": 2.0, "num_hypotheses": 3, "max_length": 9},
]


@pytest.mark.parametrize("name", CASES)
def test_n_best_lists_are_those_of_its_search(tmp_path: Path, name: str) -> None:
    """With a model that likes padding and beginnings, which no output has."""

    def edit(state: dict[str, Any], settings: Config) -> None:
        table = state["decoder.output_layer.weight"].clone()
        for tensor in state.values():
            if torch.equal(tensor, table):
                tensor[1:3, 0] = 0  # the table, and what is tied to it
        settings["testing"] = {}

    with Engine.load(written(tmp_path, name, edit)) as engine:
        for one in FACTS[name]["searched"]:
            result = engine.decode(
                [4 + int(word[1:]) for word in one["source"]],
                length_penalty_kind="gnmt",
                **SETTINGS[one["setting"]],
            )
            found = [
                [*h.ids, *([3] if h.finish_reason == "eos" else [])] for h in result.hypotheses
            ]
            assert found == [ids for ids, _ in one["found"]]
            for h, (_, score) in zip(result.hypotheses, one["found"], strict=True):
                assert h.score == pytest.approx(score, abs=1e-4)


def test_what_joey_nmt_cannot_run_itself() -> None:
    assert FACTS["one direction"].startswith("IndexError: index 1 is out of bounds")
    assert FACTS["relu"] == "AttributeError: 'ReLU' object has no attribute 'unsqueeze'"


# --- the folder, and what is beside the checkpoint ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "model", tmp_path / "model"))


def test_its_own_folder(folder: Path) -> None:
    imported = open_foreign(folder, None, {})
    model = imported.model
    assert model.provenance["checkpoint"] == "best.ckpt"
    assert model.vocabularies["tokens"][:5] == ("<unk>", "<pad>", "<s>", "</s>", "s0")
    assert model.generation == {
        "beam_size": 4, "max_length": 9, "min_length": 2, "early_stop": "joeynmt",
        "length_penalty": 1.0, "length_penalty_kind": "gnmt", "suppress_tokens": [1, 2],
    }  # fmt: skip
    assert verify(model, imported.peer()).passed
    with Engine.load(folder / "best.ckpt") as one, Engine.load(folder) as other:
        given = one.decode(["s1", "s2", "unheard"])
        assert given.ids == other.decode([5, 6, 0]).ids
        for found in FACTS["lstm_luong"]["found"]:
            if (found["beam"], found["alpha"]) == (4, 1.0):
                best = one.decode(found["source"])
                assert [*best.ids, 3][: len(found["ids"])] == found["ids"]
                assert best.score == pytest.approx(found["score"], abs=1e-4)


def test_what_a_search_never_writes(tmp_path: Path) -> None:
    def edit(version: str, unknown: bool | None) -> Any:
        def change(_: dict[str, Any], settings: Config) -> None:
            settings["joeynmt_version"] = version
            settings["testing"] |= {} if unknown is None else {"generate_unk": unknown}
            settings["data"]["special_symbols"] = {"sep_token": "t0", "lang_tags": ["t1", "t2"]}

        return change

    expected: dict[tuple[str, bool | None], Any] = {
        ("2.3.0", True): [1, 2, 4, 5, 6],
        ("2.3.0", False): [0, 1, 2, 4, 5, 6],
        ("2.2.1", None): None,
        ("2.0.0", False): [0],
    }
    for told, ids in expected.items():
        model = open_foreign(written(tmp_path, edit=edit(*told)), None, {}).model
        assert model.generation.get("suppress_tokens") == ids


def test_which_checkpoint_of_a_folder(folder: Path) -> None:
    best = folder / "best.ckpt"
    best.rename(folder / "10.ckpt")
    assert open_foreign(folder, None, {}).model.provenance["checkpoint"] == "10.ckpt"
    shutil.copy(folder / "10.ckpt", folder / "latest.ckpt")
    assert open_foreign(folder, None, {}).model.provenance["checkpoint"] == "latest.ckpt"
    (folder / "latest.ckpt").rename(folder / "20.ckpt")
    with pytest.raises(ModelFormatError, match=r"no latest\.ckpt, but 2 other .*10\.ckpt, 20\.ckp"):
        Engine.load(folder)
    for one in ("10.ckpt", "20.ckpt"):
        (folder / one).unlink()
    with pytest.raises(ModelFormatError, match=r"but 0 other checkpoints \(none\)"):
        Engine.load(folder, importer="joeynmt")


def test_specials_stand_first_in_a_vocabulary(folder: Path) -> None:
    words = (folder / "src_vocab.txt").read_text().split("\n")
    (folder / "src_vocab.txt").write_text("\n".join(words[4:]))
    with Engine.load(folder) as engine:
        assert engine.info.vocabularies["tokens"][:4] == ("<unk>", "<pad>", "<s>", "</s>")
    (folder / "src_vocab.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="the source vocabulary has 6 strings, must have 12"):
        Engine.load(folder)
    with Engine.load(folder, source_vocabulary=[f"w{n}" for n in range(12)]) as engine:
        assert engine.info.vocabularies["tokens"][0] == "w0"


def test_without_a_configuration_its_facts_are_options(tmp_path: Path) -> None:
    path = written(tmp_path, "tied_embeddings", configured=False)
    with pytest.raises(InputError, match=r"needs the option source_scale .*multiplied by the root"):
        Engine.load(path)
    scales = {"source_scale": True, "target_scale": True}
    imported = check(path, "joeynmt", scales)
    assert imported.model.generation["max_length"] == {"numerator": 3, "denominator": 2}
    path = written(tmp_path, "gru_zero", configured=False)
    with pytest.raises(
        InputError, match=r"needs the option init_hidden .*'bridge', 'last', 'zero'"
    ):
        Engine.load(path, **scales)
    with pytest.raises(
        ModelFormatError, match=r"init_hidden is 'bridge', but .*layer.weight is mis"
    ):
        Engine.load(path, **scales, init_hidden="bridge")
    off = {"source_scale": False, "target_scale": False, "init_hidden": "zero"}
    theirs = recorded("gru_zero")
    assert verify(open_foreign(path, None, off).model, theirs, **theirs.runs).passed


def test_configurations_of_version_1(tmp_path: Path) -> None:
    def edit(_: dict[str, Any], settings: Config) -> None:
        del settings["joeynmt_version"]
        settings["data"] = {"src": "de", "trg": "en", "level": "char"}
        settings["testing"] = {"beam_size": 5, "alpha": 0.5}
        settings["training"] = {"max_output_length": 30}

    path = written(tmp_path, edit=edit)
    for side, count in (("src", 12), ("trg", 14)):
        (tmp_path / f"{side}_vocab.txt").write_text(
            "".join(f"{chr(97 + n)}\n" for n in range(count - 4))
        )
    model = open_foreign(path, None, {"release": "1.3"}).model
    assert model.characters
    assert model.generation == {
        "beam_size": 5, "max_length": 30, "length_penalty": 0.5, "length_penalty_kind": "gnmt",
        "search": DONE,
    }  # fmt: skip


# --- releases before 2.0 ---

AGAIN = {"ended": "expand", "stop": "first", "limit": "again"}
DONE = {"ended": "expand", "stop": "first", "limit": "done"}
CLOSED = {"ended": "expand", "stop": "places", "limit": "closed"}
FOUND = json.loads((FOLDER / "model_1" / "found.json").read_text())


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A folder that 1.4 could have written."""
    return Path(shutil.copytree(FOLDER / "model_1", tmp_path / "model_1"))


@pytest.mark.parametrize("release", FOUND)
def test_lists_of_a_model_of_an_early_release(first: Path, release: str) -> None:
    behind = 0
    with Engine.load(first, release=release) as engine:
        for one in FOUND[release]:
            beam = {"beam_size": one["beam"], "num_hypotheses": max(1, len(one["found"]))}
            if one["beam"] == 1:
                greedy = engine.decode(one["source"], beam_size=1)
                end = [3] * (greedy.hypotheses[0].finish_reason == "eos")
                ids = one["found"]
                assert [*greedy.ids, *end] == ids[: ids.index(3) + 1 if 3 in ids else None]
                continue
            penalty = {"length_penalty": one["alpha"], "length_penalty_kind": "gnmt"}
            found = engine.decode(one["source"], **beam, **penalty).hypotheses
            assert len(found) == len(one["found"])
            for h, (score, ids) in zip(found, one["found"], strict=True):
                end = [3] * (h.finish_reason == "eos")
                assert [*h.ids, *end] == ids[: ids.index(3) + 1 if 3 in ids else None]
                assert h.score == pytest.approx(score, abs=2e-6)
                behind += 3 in ids[:-1]
    assert behind >= 3


def test_an_early_folder_says_its_release_or_its_user_does(first: Path) -> None:
    with pytest.raises(InputError, match=r"needs the option release .* 1\.4 and 1\.5"):
        Engine.load(first)
    log = "2022-01-20 - INFO - root - Hello! This is Joey-NMT (version {}).\n"
    (first / "train.log").write_text(log.format("1.3") + "Epoch 1\n" + log.format("1.5.1"))
    assert rule_of(first) == CLOSED
    (first / "train.log").write_text(log.format("1.3"))
    assert rule_of(first) == DONE
    assert rule_of(first, release="1.4") == CLOSED
    with (first / "config.yaml").open("a") as file:
        file.write("joeynmt_version: 1.4\n")
    assert rule_of(first) == CLOSED


def rule_of(path: Path, **options: Any) -> Any:
    return open_foreign(path, None, options).model.generation.get("search")


SECOND = {"train_iter_state", "optimizer_state", "best_ckpt_score"}


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"best_ckpt_score", "amp_state"}, DONE),  # 1.0 to 1.2
        ({"best_ckpt_score"}, None),  # 0.9 and 0.0
        ({*SECOND, "amp_state"}, None),  # 1.3 to 1.5
        (set(), None),
    ],
)
def test_keys_tell_early_releases_apart(first: Path, keys: set[str], rule: Any) -> None:
    state = torch.load(first / "best.ckpt", weights_only=True)
    torch.save(dict.fromkeys(keys) | {"model_state": state["model_state"]}, first / "best.ckpt")
    if rule is None:
        with pytest.raises(InputError, match="needs the option release"):
            Engine.load(first)
        assert rule_of(first, release="0.0") == DONE
    else:
        assert rule_of(first) == rule
    (first / "config.yaml").unlink()
    told = {"init_hidden": "bridge", "source_scale": False, "target_scale": False}
    if rule is None and keys:
        with pytest.raises(InputError, match="needs the option release"):
            Engine.load(first / "best.ckpt", **told)
    else:
        assert rule_of(first / "best.ckpt", **told) == rule  # without keys, 2.3


@pytest.mark.parametrize(
    ("keys", "forbidden"),
    [
        ({*SECOND, "amp_state"}, None),  # 2.0
        ({*SECOND, "scaler_state"}, None),  # 2.1 and 2.2
        ({"scaler_state", "stats_state"}, [1, 2]),
        (set(), [1, 2]),
    ],
)
def test_keys_tell_late_releases_apart(tmp_path: Path, keys: set[str], forbidden: Any) -> None:
    def edit(_: dict[str, Any], settings: Config) -> None:
        del settings["joeynmt_version"]

    path = written(tmp_path, edit=edit)
    torch.save(dict.fromkeys(keys) | {"model_state": weights("gru_bahdanau")}, path)
    generation = open_foreign(path, None, {}).model.generation
    assert generation["early_stop"] == "joeynmt"
    assert generation.get("suppress_tokens") == forbidden


def test_penalties_of_early_releases(first: Path) -> None:
    def penalty(alpha: str, release: str) -> Any:
        text = (FOLDER / "model_1" / "config.yaml").read_text()
        (first / "config.yaml").write_text(text.replace("alpha: 1.0", f"alpha: {alpha}"))
        generation = open_foreign(first, None, {"release": release}).model.generation
        return generation.get("length_penalty"), generation.get("search")

    assert penalty("-0.5", "1.5") == (-0.5, CLOSED)
    assert penalty("-0.5", "2.0") == (None, None)
    assert penalty("-1", "1.5") == (None, CLOSED)
    assert penalty("0", "0.9") == (None, AGAIN)
    with pytest.raises(ModelFormatError, match=r"without a penalty the beams of Joey NMT 0\.9 are"):
        penalty("-1", "0.9")


# --- what is refused ---


def told(path: str, value: Any) -> Callable[[dict[str, Any], Config], None]:
    def edit(_: dict[str, Any], settings: Config) -> None:
        *above, last = path.split(".")
        for key in above:
            settings = settings.setdefault(key, {})
        settings[last] = value

    return edit


def weight(name: str, shape: tuple[int, ...] | None) -> Callable[[dict[str, Any], Config], None]:
    def edit(state: dict[str, Any], _: Config) -> None:
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(shape)

    return edit


def one_direction(state: dict[str, Any], _: Config) -> None:
    for name in [name for name in state if name.endswith("_reverse")]:
        del state[name]


def transformer(state: dict[str, Any], _: Config) -> None:
    for name in [name for name in state if name.startswith("encoder.rnn")]:
        del state[name]
    state["encoder.layer_norm.weight"] = torch.zeros(5)


REFUSED: list[tuple[Any, str]] = [
    (one_direction, "one direction only .* no version of Joey NMT can run itself"),
    (transformer, "the encoder is Transformer: it has no encoder.rnn.weight_ih_l0"),
    (told("model.decoder.activation", "relu"), "decoder.activation is 'relu': a recurrent decoder"),
    (told("model.encoder.rnn_type", "lstm"), "encoder.rnn_type is 'lstm', but the weights say 'gr"),
    (told("model.decoder.num_layers", 2), "decoder.num_layers is '2', but the weights say 1"),
    (told("model.decoder.attention", "luong"), "attention is 'luong', but the weights say 'bahd"),
    (told("model.decoder.input_feeding", False), "input_feeding is 'False', but the weights say T"),
    (told("model.decoder.init_hidden", "last"), "is 'last', but decoder.bridge_layer.weight is th"),
    (told("model.decoder.init_hidden", "mean"), "init_hidden is 'mean', must be one of 'bridge'"),
    (told("model.encoder.embeddings.scale", 2), "embeddings.scale is '2', must be a boolean"),
    (told("testing.beam_size", "many"), "testing.beam_size is 'many', must be a number of at lea"),
    (told("testing.generate_unk", 3), "testing.generate_unk is '3', must be true or false"),
    (told("testing.no_repeat_ngram_size", 3), "no_repeat_ngram_size is '3', which the search here"),
    (weight("decoder.output_layer.weight", None), "has no weight decoder.output_layer.weight"),
    (weight("encoder.rnn.bias_hh_l0_reverse", None), "has no weight encoder.rnn.bias_hh_l0_reve"),
    (
        weight("decoder.rnn.weight_ih_l0_reverse", (2, 2)),
        "no place for: decoder.rnn.weight_ih_l0_r",
    ),
    (weight("decoder.gate.weight", (2, 2)), "such a model has no place for: decoder.gate.weight"),
    (weight("decoder.att_vector_layer.weight", (6, 9)), "att_vector|linear"),
]


@pytest.mark.parametrize(("edit", "reason"), REFUSED)
def test_refusals_name_the_file_and_the_reason(tmp_path: Path, edit: Any, reason: str) -> None:
    path = written(tmp_path, edit=edit)
    with pytest.raises(ModelFormatError, match=reason) as refused:
        Engine.load(path)
    assert str(refused.value).startswith(str(path))


def test_older_versions_do_not_read_the_activation(tmp_path: Path) -> None:
    def edit(_: dict[str, Any], settings: Config) -> None:
        settings["joeynmt_version"] = "2.2.0"
        settings["model"]["decoder"]["activation"] = "relu"

    theirs = recorded("gru_bahdanau")
    imported = open_foreign(written(tmp_path, edit=edit), None, {})
    assert verify(imported.model, theirs, **theirs.runs).passed


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "config.yaml").write_text("model: &one\n")
    with pytest.raises(ModelFormatError, match=r"config\.yaml: line 1: .* an anchor: only plain"):
        Engine.load(path)


def test_what_is_no_checkpoint_of_joey_nmt(tmp_path: Path) -> None:
    torch.save(weights("gru_zero"), tmp_path / "bare.ckpt")
    with pytest.raises(ModelFormatError, match=r"bare\.ckpt: is no file of Joey NMT: a dictionary"):
        Engine.load(tmp_path / "bare.ckpt", importer="joeynmt")
    with pytest.raises(ModelFormatError, match="is no file of Joey NMT"):
        Engine.load({name: np.zeros((2, 2)) for name in ("a", "b")}, importer="joeynmt")


def test_no_shape_gets_through(tmp_path: Path) -> None:
    for name in weights("lstm_luong"):
        for shape in ((), (0,), (3,), (1, 1), (0, 4), (2, 3, 4)):
            path = written(tmp_path, "lstm_luong", weight(name, shape))
            with pytest.raises(ModelFormatError, match=r"\.(ckpt|pt): "):
                Engine.load(path)


# --- the fixtures ---


def test_fixtures_are_those_that_were_made() -> None:
    sums_hold(FOLDER)


CLONE = os.environ.get("S2S_JOEYNMT", "")


@pytest.mark.skipif(
    not CLONE or importlib.util.find_spec("yaml") is None,
    reason="S2S_JOEYNMT names no clone of Joey NMT",
)
def test_fixtures_can_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "data" / "joeynmt").mkdir(parents=True)
    make = tmp_path / "data" / "joeynmt" / "make.py"
    make.write_text((FOLDER / "make.py").read_text())
    (tmp_path / "packed.py").write_text((FOLDER.parents[1] / "packed.py").read_text())
    subprocess.run([sys.executable, str(make), CLONE], check=True, timeout=300)
    arrays, facts = unpack(make.parent / "joeynmt.npz")
    assert facts == FACTS and arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, ARRAYS[name], atol=1e-6, err_msg=name)
