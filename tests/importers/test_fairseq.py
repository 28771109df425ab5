"""The fairseq importer against fairseq's own modules and generator (recorded) and torch.nn."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed import part, unpack
from verified import Recorded, check

from s2s_engine import Engine, InputError, ModelFormatError
from s2s_engine.importers.loading import open_foreign
from s2s_engine.importers.verification import verify

FOLDER = Path(__file__).parent / "data" / "fairseq"
ARRAYS, FACTS = unpack(FOLDER / "fairseq.npz")
TRANSLATION = [name for name in FACTS if not name.startswith("lm")]
LANGUAGE = [name for name in FACTS if name.startswith("lm")]
NAMED = [f"{letter}{n}" for letter, count in (("s", 7), ("t", 9)) for n in range(count)]
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity("torch")
Edit = Callable[[dict[str, Any]], None]


def state(name: str, era: str = "args") -> dict[str, Any]:
    """A checkpoint as Trainer.state_dict writes it, of the recorded weights."""
    args = argparse.Namespace(**FACTS[name]["args"])
    weights = {n: torch.from_numpy(a.copy()) for n, a in part(ARRAYS, f"{name}/weights").items()}
    if getattr(args, "share_all_embeddings", False):
        weights["decoder.embed_tokens.weight"] = weights["encoder.embed_tokens.weight"]
    model, task = argparse.Namespace(**vars(args)), {"_name": args.task}
    model._name = args.arch
    if args.task == "translation":
        task |= {"source_lang": args.source_lang, "target_lang": args.target_lang}
    config = {"_name": None, "model": model, "task": task, "common": {"seed": 1}}
    told = {"args": args, "cfg": None} if era == "args" else {"args": None, "cfg": config}
    return {**told, "model": weights, "optimizer_history": [{}], "extra_state": {}}


def written(folder: Path, name: str = "plain", edit: Edit | None = None, era: str = "args") -> Path:
    content = state(name, era)
    if edit is not None:
        edit(content)
    path = folder / "checkpoint_best.pt"
    torch.save(content, path)
    return path


def recorded(name: str) -> Recorded:
    cases = {
        n.removeprefix(f"{name}/"): a
        for n, a in ARRAYS.items()
        if n.startswith(f"{name}/") and "/weights/" not in n
    }
    return Recorded("fairseq 3d262bb25690", cases)


# --- the networks ---


@pytest.mark.parametrize("era", ["args", "cfg"])
@pytest.mark.parametrize("name", TRANSLATION)
def test_logits_are_those_of_fairseq(tmp_path: Path, name: str, era: str) -> None:
    imported = open_foreign(written(tmp_path, name, era=era), None, {})
    assert imported.importer.name == "fairseq"
    theirs = recorded(name)
    found = verify(imported.model, theirs, **theirs.runs)
    assert found.passed and found.inputs == 3, str(found)
    model = imported.model
    assert (model.start, model.end, model.source.append) == (2, (2,), (2,))


@pytest.mark.parametrize("name", TRANSLATION)
def test_every_value_is_that_of_pytorchs_modules(tmp_path: Path, name: str) -> None:
    check(written(tmp_path, name), "fairseq")


@pytest.mark.parametrize("name", LANGUAGE)
def test_language_models(tmp_path: Path, name: str) -> None:
    imported = check(written(tmp_path, name), "fairseq", without=("concatenation",))
    with Engine.load(imported.model) as engine:
        for case in recorded(name).cases:
            values = part(ARRAYS, f"{name}/{case}")
            logits = engine.forced_logits([], values["target"].tolist())
            np.testing.assert_allclose(logits, values["decoder.logits"], atol=1e-5)


def test_a_language_model_may_begin_with_its_other_special(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["args"].add_bos_token = True

    path = written(tmp_path, "lm", edit)
    assert check(path, "fairseq", without=("concatenation",)).model.start == 0


def test_a_config_of_omegaconfs_objects_is_read() -> None:
    imported = open_foreign(FOLDER / "checkpoint_cfg.pt", None, {})
    with Engine.load(imported.model) as engine:
        values = part(ARRAYS, "lm_residuals/0")
        logits = engine.forced_logits([], values["target"].tolist())
    np.testing.assert_allclose(logits, values["decoder.logits"], atol=1e-5)


@pytest.mark.parametrize("name", FACTS)
def test_beams_and_scores_are_those_of_its_generator(tmp_path: Path, name: str) -> None:
    model = open_foreign(written(tmp_path, name), None, {}).model
    assert model.generation == {
        "beam_size": 5, "max_length": 201, "min_length": 2, "early_stop": "fairseq",
        "length_penalty": 1.0,
    }  # fmt: skip
    with Engine.load(model) as engine:
        for recorded_beam in FACTS[name]["beams"]:
            source = recorded_beam["source"]
            given = engine.decode(
                None if source else [],
                inputs={"tokens": source} if source else None,
                prepared=bool(source),
                num_hypotheses=5,
                max_length=recorded_beam["b"] + 1,
            ).hypotheses
            want = recorded_beam["beams"]
            assert [[*one.ids, 2] for one in given] == [ids for ids, _ in want]
            scores = [score for _, score in want]
            np.testing.assert_allclose([one.score for one in given], scores, atol=2e-5)


# --- the file, and what is beside it ---


def test_its_own_checkpoint_with_its_dictionaries() -> None:
    with Engine.load(FOLDER / "checkpoint_best.pt") as engine:
        words = engine.info.vocabularies
        assert words["tokens"] == ("<s>", "<pad>", "</s>", "<unk>", *(f"s{n}" for n in range(7)))
        assert words["target"][4] == "t0" and words["target"][-1] == "madeupword0002"
        result = engine.decode(["s1", "s2", "unheard"])
        assert result.ids == engine.decode([5, 6, 3]).ids
    imported = open_foreign(FOLDER / "checkpoint_best.pt", None, {})
    found = verify(imported.model, imported.peer())
    assert found.passed, str(found)


def test_dictionaries_by_option(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "words.txt").write_text("".join(f"s{n} {9 - n}\n" for n in range(6)) + "a  b 1\n")
    told = {"source_vocabulary": tmp_path / "words.txt", "target_vocabulary": NAMED}
    with Engine.load(path, **told) as engine:
        assert engine.info.vocabularies["tokens"][-2:] == ("s5", "a  b")
        assert engine.info.vocabularies["target"] == tuple(NAMED)
    (tmp_path / "words.txt").write_text("a 1\nb 2\n")
    with pytest.raises(ModelFormatError, match=r"words.txt makes 6 words .*, must make 11"):
        Engine.load(path, **told)
    with pytest.raises(InputError, match="the source vocabulary has 1 strings, must have 11"):
        Engine.load(path, source_vocabulary=["a"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a 1\nb\n", "line 2: 'b' must be a word and its count"),
        ("a 1\na 2\n", "line 2: the word 'a' stands twice"),
        ("<pad> 1\n", "line 1: the word '<pad>' stands twice"),
        ("a one\n", "must be a word and its count"),
    ],
)
def test_a_wrong_dictionary_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path)
    (tmp_path / "dict.de.txt").write_text(text)
    with pytest.raises(ModelFormatError, match=rf"dict\.de\.txt, {reason}|{reason}"):
        Engine.load(path)


def test_a_word_may_overwrite_another(tmp_path: Path) -> None:
    lines = [*(f"s{n} 1" for n in range(6)), "<unk> 1 #fairseq:overwrite"]
    (tmp_path / "dict.de.txt").write_text("\n".join(lines) + "\n")
    with Engine.load(written(tmp_path)) as engine:
        assert engine.decode(["<unk>"]).ids == engine.decode([10]).ids


# --- what is refused ---


def arguments(**changed: Any) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        vars(content["args"]).update(changed)

    return edit


def weights(**changed: Any) -> Edit:
    """None takes a weight away; a shape puts zeros in its place. `__` stands for a dot."""

    def edit(content: dict[str, Any]) -> None:
        for key, shape in changed.items():
            name = key.replace("__", ".")
            content["model"].pop(name, None)
            if shape is not None:
                content["model"][name] = torch.zeros(shape)

    return edit


REFUSED: list[tuple[str, Edit, str]] = [
    ("plain", arguments(arch="transformer"), "the architecture is 'transformer'; those that can"),
    ("plain", arguments(task="multilingual_translation"), "'multilingual_translation', which may"),
    ("lm", arguments(output_dictionary_size=9), "output_dictionary_size is 9: a model that"),
    ("plain", weights(decoder__adaptive_softmax__head__weight=(2, 6)), "has an adaptive softmax"),
    ("plain", weights(decoder__fc_out__weight=None), "but decoder.fc_out.weight is missing"),
    (
        "plain",
        arguments(share_decoder_input_output_embed=True),
        "share_decoder_input_output_embed is True, .* but decoder.fc_out.weight is there",
    ),
    ("tied", arguments(share_decoder_input_output_embed=False), "fc_out.weight is missing"),
    (
        "plain",
        arguments(decoder_attention=torch.ones(2), arch=torch.ones(2)),
        "architecture is 'No",
    ),
    ("plain", arguments(decoder_attention="0"), "decoder_attention is '0', but the weights say T"),
    ("no_attention", arguments(decoder_attention="1"), "decoder_attention is '1', but the weights"),
    ("plain", arguments(encoder_bidirectional=True), "encoder_bidirectional is True, but the wei"),
    ("plain", arguments(decoder_layers=2), "decoder_layers is 2, but there are weights for 1"),
    ("plain", arguments(encoder_layers=2), "encoder_layers is 2, but there are weights for 1"),
    ("plain", weights(decoder__layers__0__bias_hh=None), "has no weight decoder.layers.0.bias_hh"),
    ("plain", weights(encoder__conv__weight=(2, 2)), "no place for: encoder.conv.weight"),
    ("plain", weights(encoder__lstm__weight_ih_l0=(24, 9)), "weight_ih"),
    ("plain", weights(encoder__lstm__weight_hh_l0=(18, 6)), "must have 4 times as many rows"),
    ("plain", weights(encoder__embed_tokens__weight=None), "has no weight encoder.embed_tokens"),
    ("projected", weights(decoder__encoder_cell_proj__weight=None), "encoder_cell_proj"),
]


@pytest.mark.parametrize(("name", "edit", "reason"), REFUSED)
def test_refusals_name_the_file_and_the_reason(
    tmp_path: Path, name: str, edit: Edit, reason: str
) -> None:
    path = written(tmp_path, name, edit)
    with pytest.raises(ModelFormatError, match=reason) as refused:
        Engine.load(path)
    assert str(refused.value).startswith(str(path))


def test_an_architecture_of_ones_own_name_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, edit=arguments(arch="lstm_tiny", task="my_translation"))
    with pytest.raises(
        ModelFormatError, match=r"'lstm_tiny'.*say architecture='lstm' or 'lstm_lm'"
    ):
        Engine.load(path)
    imported = open_foreign(path, None, {"architecture": "lstm"})
    assert verify(imported.model, imported.peer()).passed
    with pytest.raises(InputError, match="option architecture is 'gru', must be one of 'lstm'"):
        Engine.load(path, architecture="gru")


def test_what_is_no_checkpoint_of_fairseq(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(state("plain")["model"], path)
    with pytest.raises(ModelFormatError, match=r"bare\.pt: is no file of fairseq: a dictionary"):
        Engine.load(path, importer="fairseq")
    torch.save({"model": state("plain")["model"]}, path)
    with pytest.raises(ModelFormatError, match=r"bare\.pt: has neither 'args' nor 'cfg'"):
        Engine.load(path, importer="fairseq")
    with pytest.raises(ModelFormatError, match="is no file of fairseq"):
        Engine.load({"decoder.embed_tokens.weight": np.zeros((2, 2))}, importer="fairseq")


def test_no_shape_gets_through(tmp_path: Path) -> None:
    for name in state("bidirectional_two")["model"]:
        for shape in ((), (0,), (3,), (1, 1), (0, 4), (2, 3, 4)):
            path = written(tmp_path, "bidirectional_two", weights(**{name: shape}))
            with pytest.raises(ModelFormatError, match=r"\.(ckpt|pt): "):
                Engine.load(path)


# --- the fixtures ---


def test_fixtures_are_those_that_were_made() -> None:
    sums = json.loads((FOLDER / "sha256.json").read_text())
    for name, digest in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


CLONE = os.environ.get("S2S_FAIRSEQ", "")


@pytest.mark.skipif(
    not CLONE or importlib.util.find_spec("omegaconf") is None,
    reason="S2S_FAIRSEQ names no clone of fairseq",
)
def test_fixtures_can_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "data" / "fairseq").mkdir(parents=True)
    make = tmp_path / "data" / "fairseq" / "make.py"
    make.write_text((FOLDER / "make.py").read_text())
    (tmp_path / "packed.py").write_text((FOLDER.parents[1] / "packed.py").read_text())
    subprocess.run([sys.executable, str(make), CLONE], check=True, timeout=300)
    arrays, facts = unpack(make.parent / "fairseq.npz")
    assert facts == FACTS and arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, ARRAYS[name], atol=1e-6, err_msg=name)
