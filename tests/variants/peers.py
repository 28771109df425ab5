"""PyTorch's own modules in float64 with given arrays, as oracles. Knows PyTorch's layouts, which
are the canonical ones; nothing of the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def torch() -> Any:
    module: Any = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


def tensors(w: Any) -> dict[str, Any]:
    t = torch()
    return {name: t.tensor(np.asarray(array, np.float64)) for name, array in w.items()}


def _load(module: Any, values: dict[str, Any]) -> Any:
    module.load_state_dict(tensors(values))
    return module.requires_grad_(False).eval()


def _cell(w: Any, name: str) -> dict[str, Any]:
    return {k[len(name) + 1 :]: v for k, v in w.items() if k.startswith(f"{name}.")}


def layer(kind: str, w: Any, *names: str, backward: tuple[str, ...] = ()) -> Any:
    """torch.nn.GRU, LSTM or RNN of as many layers as there are names."""
    values: dict[str, Any] = {}
    for suffix, prefixes in (("", names), ("_reverse", backward)):
        for k, name in enumerate(prefixes):
            values |= {f"{role}_l{k}{suffix}": v for role, v in _cell(w, name).items()}
    t = torch()
    module = getattr(t.nn, kind)(
        values["weight_ih_l0"].shape[1],
        values["weight_hh_l0"].shape[1],
        num_layers=len(names),
        bias="bias_ih_l0" in values,
        bidirectional=bool(backward),
        dtype=t.float64,
    )
    return _load(module, values)


def cell(kind: str, w: Any, name: str) -> Any:
    """torch.nn.GRUCell or LSTMCell."""
    values, t = _cell(w, name), torch()
    inputs, hidden = values["weight_ih"].shape[1], values["weight_hh"].shape[1]
    bias = "bias_ih" in values
    return _load(getattr(t.nn, kind)(inputs, hidden, bias=bias, dtype=t.float64), values)


def embed(table: Any, ids: Any) -> Any:
    """Rows of a table, zeros for -1."""
    t = torch()
    rows = table[t.tensor(np.maximum(ids, 0))]
    return t.where((t.tensor(ids) < 0)[..., None], t.zeros(1, dtype=t.float64), rows)
