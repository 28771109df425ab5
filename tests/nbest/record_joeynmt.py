"""Records the n-best lists of Joey NMT's releases on random models, once, with the program itself.
Knows its searches' doors; never s2s_engine, which has no part in this.

    git clone -b v0.9 https://github.com/joeynmt/joeynmt 0.9     (e55b61560ef2 of 2019)
    pip download --no-deps joeynmt==1.3                  (and the others of RELEASES)
    unzip -d 1.3 joeynmt-1.3-py3-none-any.whl
    python record_joeynmt.py <the folder of all these>   (torch 2.13.0)

One release is searched after the other, each in a process of its own: SEARCHES of record.py over
its tables, whose numbers are logits here, because the program normalises them itself; `end` is
added to those of the end, so that many hypotheses end. Until 1.2 it
returns the first hypothesis alone, so `found` is the head of what it sorts: all that it counts,
with scores, ids behind an end among them. 1.1 searches with the file of 1.2, 1.5 and 1.5.1 with
that of 1.4. `greedy`: the ids of its greedy search.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.machinery
import json
import lzma
import random
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import record  # noqa: E402

RELEASES = ("0.9", "0.0.1", "0.0.3", "1.0", "1.2", "1.3", "1.4", "2.0.0")
OLD = ("0.9", "0.0.1", "0.0.3")  # their searches take a decoder, not a model
NOT_NEEDED = ("torchtext", "sacrebleu", "yaml", "pkg_resources", "joeynmt.plotting",
              "torch.utils.tensorboard", "subword_nmt", "sentencepiece")  # fmt: skip
SOURCE = torch.zeros(1, 1, 1)
MASK = torch.ones(1, 1, 1).bool()


class Stub(types.ModuleType):
    """A module that has every name, and nothing behind it."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Stubs:
    """Finds modules that no search needs."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> Any:
        if any(name == one or name.startswith(one + ".") for one in NOT_NEEDED):
            return importlib.machinery.ModuleSpec(name, Stubs)
        return None

    @staticmethod
    def create_module(spec: Any) -> Any:
        return Stub(spec.name)

    @staticmethod
    def exec_module(module: Any) -> None:
        pass


class Table:
    """A decoder whose state is the number of its steps."""

    def __init__(self, search: dict[str, Any]) -> None:
        self.output_size = search["vocabulary"]
        by_id, by_step = record.table(search["table"], self.output_size)
        by_id[:, record.EOS] += search["end"]
        self.by_id, self.by_step = torch.from_numpy(by_id), torch.from_numpy(by_step)

    def _init_hidden(self, _: Any) -> Any:
        return torch.zeros(1, 1, 1, dtype=torch.long)

    def __call__(self, **given: Any) -> Any:
        """Of a decoder with embedded ids, or of a model with ids."""
        ids = given.get("trg_input", given.get("trg_embed"))
        step = given.get("decoder_hidden", given.get("hidden"))
        step = self._init_hidden(None) if step is None else step
        logits = self.by_id[ids.reshape(-1)] + self.by_step[step.reshape(-1)]
        return logits.unsqueeze(1), step + 1, torch.zeros(len(logits), 1, 1), None


def whole_division(self: Any, other: Any, **more: Any) -> Any:
    """As torch divided integers when 0.9 and 0.0.1 were written."""
    if not self.is_floating_point():
        more.setdefault("rounding_mode", "floor")
    return torch.div(self, other, **more)


def lists(program: Any, release: str, search: dict[str, Any]) -> dict[str, Any]:
    sorted_: list[Any] = []

    def caught(found: Any, **rule: Any) -> Any:
        sorted_.append(builtins.sorted(found, **rule))
        return sorted_[-1]

    program.sorted = caught
    table = Table(search)
    ids = {"bos_index": record.START, "eos_index": record.EOS, "pad_index": record.PAD}
    model = types.SimpleNamespace(decoder=table, unk_index=record.UNK, **ids)
    source = {"encoder_output": SOURCE, "encoder_hidden": None, "src_mask": MASK,
              "max_output_length": search["max"]}  # fmt: skip
    beam = {"alpha": search["alpha"], "n_best": search["n_best"] if release >= "1.3" else 1}
    size = {"beam_size" if release >= "2" else "size": search["beam"]}
    if release in OLD:
        door: dict[str, Any] = {"decoder": table, "embed": lambda ids: ids}
        program.beam_search(**door, **ids, **source, **size, **beam)
        if release == "0.9":
            del ids["eos_index"], ids["pad_index"]
        ids.pop("pad_index", None)
        greedy = program.recurrent_greedy(**door, **ids, **source)[0]
    else:

        class Model:
            def __getattr__(self, name: str) -> Any:
                return getattr(model, name)

            def __call__(self, **given: Any) -> Any:
                return table(**given)

        program.beam_search(Model(), **source, **size, **beam)
        greedy = program.recurrent_greedy(model=Model(), **source)[0]
    (found,) = sorted_
    head = [[float(score), ids.tolist()] for score, ids in found[: search["n_best"]]]
    return search | {"found": head, "greedy": greedy[0].tolist()}


def searches(release: str) -> list[dict[str, Any]]:
    rng = random.Random(f"joeynmt {release} {record.SEED}")
    found = []
    for search in record.searches(f"joeynmt {release}"):
        del search["min"]
        search |= {"n_best": search["beam"], "end": rng.choice((0.0, 1.0, 2.0))}
        alphas = (0.0, 0.6, 1.0, 2.0, *(() if release == "0.9" else (-1.0, -1.0)))
        found.append(search | {"alpha": rng.choice(alphas)})
    return found


def one(folder: Path, release: str) -> None:
    torch.set_num_threads(1)
    sys.meta_path.insert(0, Stubs)
    sys.path.insert(0, str(folder / release))
    program = importlib.import_module("joeynmt.search")
    with mock.patch.object(torch.Tensor, "div", whole_division):
        found = [lists(program, release, search) for search in searches(release)]
    print(json.dumps(found))


def main(folder: Path) -> None:
    found = {}
    for release in RELEASES:
        command = [sys.executable, __file__, str(folder), release]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found[release] = json.loads(done.stdout)
    version = f"Joey NMT, torch {torch.__version__}"
    document = {"program": version, "seed": record.SEED, "releases": found}
    data = lzma.compress(json.dumps(document).encode())
    (HERE / "joeynmt.json.xz").write_bytes(data)
    sums = json.loads((HERE / "sha256.json").read_text())
    sums["joeynmt.json.xz"] = hashlib.sha256(data).hexdigest()
    (HERE / "sha256.json").write_text(json.dumps(dict(sorted(sums.items())), indent=1) + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    one(Path(given[0]), given[1]) if given[1:] else main(Path(given[0]))
