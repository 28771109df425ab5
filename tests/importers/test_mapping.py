"""Maps: the examples, every change of an array, and what a map may not say."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2s_engine import Engine, ModelFormatError
from s2s_engine.importers import import_model, map_model
from s2s_engine.importers.mapping import _Map

EXAMPLES = Path(__file__).parents[2] / "examples" / "own_wiring"
V, E, H = 5, 3, 4


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"table": (V, E), "kernel": (E + H, 4 * H), "bias": (4 * H,), "out": (V, H)}
    return {name: random.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


MAP = f"""
[encoder.inputs]
tokens = {{ ids = {V} }}
[encoder.nodes]
x = {{ op = "embedding", x = "tokens", weight = "table" }}
[encoder.nodes.read]
op = "lstm"
x = "x"
weight_ih = {{ array = "kernel", transpose = true, columns = [0, {E}], gates = "i j f o" }}
weight_hh = {{ array = "kernel", transpose = true, columns = [{E}, {E + H}], gates = "i j f o" }}
bias_ih = {{ array = "bias", gates = "i j f o", add_to_gate = {{ f = 1.0 }} }}
[encoder.nodes.out]
op = "linear"
x = "read.sequence"
weight = "out"
[encoder.outputs]
logits = "out"
"""


def mapped(text: str, tmp_path: Path, w: dict[str, Any] | None = None) -> Any:
    path = tmp_path / "map.toml"
    path.write_text(text)
    return map_model(arrays() if w is None else w, path)


def test_a_fused_kernel_of_tensorflow_1_is_its_cell(tmp_path: Path) -> None:
    from s2s_engine.architectures.tensorflow import lstm_cell

    w, model = arrays(), mapped(MAP, tmp_path)
    want = lstm_cell(w["kernel"], w["bias"], hidden=H)
    for role, array in want.items():
        assert np.array_equal(model.tensors[f"encoder.read.{role}"], array), role


def test_an_array_used_twice_is_one_tensor(tmp_path: Path) -> None:
    w = {**arrays(), "out": arrays()["table"]}
    text = MAP.replace('weight = "out"', 'weight = "table"').replace(
        'x = "read.sequence"', 'x = "x"'
    )
    model = mapped(text, tmp_path, {k: a for k, a in w.items() if k != "out"})
    assert "encoder.out.weight" not in model.tensors
    assert model.graphs["encoder"].nodes[2].weights["weight"] == "encoder.x.weight"


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ("transpose = [1, 0]", lambda a, b: a.T),
        ("rows = [1, 3]", lambda a, b: a[1:3]),
        ("reshape = [3, 5]", lambda a, b: a.reshape(3, 5)),
        ("add = 2", lambda a, b: a + np.float32(2)),
        ('add = "other"', lambda a, b: a + b),
        ("multiply = 0.5", lambda a, b: a * np.float32(0.5)),
    ],
)
def test_changes(change: str, want: Any) -> None:
    w = {"table": arrays()["table"], "other": arrays()["table"][::-1].copy()}
    fields = tomllib.loads(f'w = {{ array = "table", {change} }}')["w"]
    array = _Map(w, Path()).weight(fields, "linear", "here")
    assert np.array_equal(array, want(w["table"], w["other"]))
    assert array.dtype == np.float32


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('op = "lstm"', 'op = "lstmp"', "encoder, node 'read': op is 'lstmp', must be one of"),
        ('x = "x"', 'y = "x"', r"node 'read' \(lstm\): there is no key 'y'; keys are activation"),
        ('weight = "out"', 'weight = "outt"', "weight: there is no array 'outt'; there are table"),
        ('gates = "i j f o"', 'gates = "i j f"', "gates = 'i j f' cannot be done to an array of"),
        (f"[0, {E}]", "[0, 99]", r"columns = \[0, 99\] cannot be done to an array of shape"),
        ("f = 1.0", "q = 1.0", "add_to_gate = "),
        ('logits = "out"', 'logits = "oops"', "oops"),
        ("ids = 5", "words = 5", "input 'tokens' must be one of .* with a size"),
        ("[encoder.outputs]", "[encoder.output]", "encoder: there is no key 'output'; keys are"),
        ("[encoder.inputs]", "x = 1\n[encoder.inputs]", "the map: there is no key 'x'; keys are"),
        ("[encoder.inputs]", "[encoder.inputs", "no TOML"),
        ('weight = "out"', 'weight = { array = "out", turn = 1 }', "there is no key 'turn'"),
    ],
)
def test_what_a_map_may_not_say(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in MAP
    with pytest.raises(ModelFormatError, match=message) as caught:
        mapped(MAP.replace(old, new, 1), tmp_path)
    assert str(tmp_path / "map.toml") in str(caught.value)


def test_unused_arrays_are_named_or_left_out_on_purpose(tmp_path: Path) -> None:
    w = {**arrays(), "optim.step": np.zeros(3, np.float32)}
    with pytest.raises(ModelFormatError, match=r"array 'optim.step' is used by no node"):
        mapped(MAP, tmp_path, w)
    assert mapped('unused = ["optim.*"]\n' + MAP, tmp_path, w).tensors
    with pytest.raises(ModelFormatError, match="is of int64, must be floats"):
        mapped(MAP, tmp_path, {**arrays(), "table": np.zeros((V, E), np.int64)})


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="reads the source tree")
def test_the_map_of_g2p_en_is_the_importer(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    w = {"enc_emb": (29, 256), "dec_emb": (74, 256), "fc_w": (74, 256), "fc_b": (74,)}
    for side in ("enc", "dec"):
        w |= {f"{side}_w_ih": (768, 256), f"{side}_w_hh": (768, 256)}
        w |= {f"{side}_b_ih": (768,), f"{side}_b_hh": (768,)}
    made = {n: random.standard_normal(s).astype(np.float32) * 0.1 for n, s in w.items()}
    ours, theirs = map_model(made, EXAMPLES / "g2p_en.toml"), import_model(made, "g2p_en")
    with Engine.load(ours) as a, Engine.load(theirs) as b:
        logits = [one.forced_logits(list("phonograph"), [5, 6, 7]) for one in (a, b)]
    assert np.array_equal(*logits)


@pytest.mark.parity("torch")
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="reads the source tree")
def test_the_example_of_ones_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import network  # type: ignore[import-not-found]
    import torch
    import wiring  # type: ignore[import-not-found]

    torch.manual_seed(0)
    path = tmp_path / "reverser.pt"
    torch.save(network.Reverser().state_dict(), path)
    model = wiring.wired(str(path))
    assert wiring.difference_from_pytorch(model, str(path)) < 1e-5
    by_map = map_model(path, EXAMPLES / "reverser.toml")
    assert by_map.vocabularies == model.vocabularies and by_map.end == model.end
    with Engine.load(model) as a, Engine.load(by_map) as b:
        assert a.decode("engine").ids == b.decode("engine").ids
        logits = [one.forced_logits("engine", [5, 6]) for one in (a, b)]
    assert np.array_equal(*logits)
