"""Records the n-best lists of OpenNMT-py, fairseq and Marian on random models, once, with the
programs themselves. Knows their searches' doors; never s2s_engine, which has no part in this.

    pip install OpenNMT-py==3.5.1                             (torch 2.13.0)
    python record.py opennmt
    git clone https://github.com/facebookresearch/fairseq     (3d262bb25690, of 2025-01)
    pip install torch omegaconf regex sacrebleu bitarray      (torch 2.13.0, omegaconf 2.4.0)
    python record.py fairseq <the clone>
    pip install pymarian==1.12.42 numpy                       (Marian v1.12.42 b7be0e964)
    python record.py marian

OpenNMT-py and fairseq search tables of log-probabilities, `table` of a search's number: what an id
adds for those that follow, and what a step adds, in multiples of 1/4096, whose sums float32 holds.
Marian runs its own network: the variant `s2s` of tests/importers/data/marian, with other weights.
All is a function of the seeds below: a second run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from scripts import loaded  # noqa: E402

SEED, COUNT, STEPS = 11, 90, 16
PAD, EOS, UNK = 1, 2, 3  # fairseq's ids; OpenNMT-py takes any
START = 0
NOT_NEEDED = ("spacy", "ahocorasick", "fasttext")  # of transforms; no search needs them
WEIGHTS = ("first", "second", "third")
SOURCES, LONGEST, WORDS = 4, 6, 10


def table(number: int, vocabulary: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities by the last id, (vocabulary, vocabulary), and by step, (STEPS, vocabulary).
    An id's log-probability is their sum, -8 at least."""
    raw = hashlib.shake_256(f"table {number}".encode()).digest(
        2 * (vocabulary + STEPS) * vocabulary
    )
    whole = np.frombuffer(raw, "<u2").reshape(-1, vocabulary) >> 2
    numbers = (-(1 + whole.astype(np.float32)) / 4096).astype(np.float32)
    return numbers[:vocabulary], numbers[vocabulary:]


def searches(program: str) -> list[dict[str, int]]:
    """What is searched, the same in every run; lengths as the program counts them."""
    rng = random.Random(f"{program} {SEED}")
    found = []
    for number in range(COUNT):
        vocabulary = rng.randint(7, 12)
        beam = rng.randint(1, 5)
        maximum = rng.randint(2, 9)
        found.append({
            "table": number, "vocabulary": vocabulary, "beam": beam,
            "n_best": rng.randint(1, beam), "max": maximum,
            "min": rng.choice((0, 0, 1, min(3, maximum - 1))),
        })  # fmt: skip
    return found


def opennmt() -> dict[str, Any]:
    """`BeamSearch` driven as `Translator._translate_batch_with_strategy` drives it."""
    for name in NOT_NEEDED:
        sys.modules.setdefault(name, types.ModuleType(name))
    import onmt
    import torch
    from onmt.translate.beam_search import BeamSearch, GNMTGlobalScorer

    found = []
    for search in searches("opennmt"):
        by_id, by_step = map(torch.from_numpy, table(search["table"], search["vocabulary"]))
        strategy = BeamSearch(
            beam_size=search["beam"], batch_size=1, pad=PAD, bos=START, eos=EOS, unk=UNK,
            start=START, n_best=search["n_best"],
            global_scorer=GNMTGlobalScorer(0.0, 0.0, None, None),
            min_length=search["min"], max_length=search["max"], return_attention=False,
            block_ngram_repeat=0, exclusion_tokens=set(), stepwise_penalty=False, ratio=0.0,
            ban_unk_token=False,
        )  # fmt: skip
        strategy.initialize(torch.zeros(1, 1, 1), torch.tensor([1]))
        for step in range(strategy.max_length):
            strategy.advance(by_id[strategy.current_predictions] + by_step[step], None)
            if any(map(any, strategy.is_finished_list)):
                strategy.update_finished()
                if strategy.done:
                    break
        lists = zip(strategy.scores[0], strategy.predictions[0], strict=True)
        found.append(search | {"found": [[score, ids.tolist()] for score, ids in lists]})
    version = f"OpenNMT-py {onmt.__version__}, torch {torch.__version__}"
    return {"program": version, "seed": SEED, "searches": found}


def fairseq(clone: Path) -> dict[str, Any]:
    """`SequenceGenerator` over a model that is a table; its lists have `beam` hypotheses."""
    import torch

    modules = loaded(HERE.parent / "importers" / "data" / "fairseq" / "make.py")
    sys.path.insert(0, str(clone))
    program = modules.load(clone)

    class Table(torch.nn.Module):
        def __init__(self, by_id: Any, by_step: Any) -> None:
            super().__init__()
            self.by_id, self.by_step = by_id, by_step

        def forward(self, tokens: Any) -> tuple[Any, None]:
            return self.by_id[tokens] + self.by_step[: tokens.shape[1]], None

        def get_normalized_probs(self, output: Any, **_: Any) -> Any:
            return output[0]

    found = []
    rng = random.Random(SEED)
    for search in searches("fairseq"):
        search["length_penalty"] = rng.choice((0.0, 0.5, 1.0, 1.0))
        words = modules.words(program, "t", search["vocabulary"] - 4, 1)
        assert (words.pad(), words.eos(), len(words)) == (PAD, EOS, search["vocabulary"])
        model = Table(*map(torch.from_numpy, table(search["table"], search["vocabulary"])))
        generator = program.SequenceGenerator(
            [model], words, beam_size=search["beam"], max_len_b=search["max"],
            min_len=search["min"], len_penalty=search["length_penalty"],
        )  # fmt: skip
        net = {"src_tokens": torch.tensor([[EOS]]), "src_lengths": torch.tensor([1])}
        (best,) = generator.generate([model], {"net_input": net}, bos_token=START)
        lists = [[float(one["score"]), one["tokens"].tolist()] for one in best]
        found.append(search | {"found": lists})
    version = f"fairseq 3d262bb25690, torch {torch.__version__}"
    return {"program": version, "seed": SEED, "searches": found}


def marian() -> dict[str, Any]:
    """`marian decode --n-best`, once for each search, over a few sources each."""
    made = loaded(HERE.parent / "importers" / "data" / "marian" / "make_marian.py")
    known = json.loads(lzma.decompress((made.HERE / "fixture.json.xz").read_bytes()))
    variant = known["variants"]["s2s"]
    rng = random.Random(f"marian {SEED}")
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made.prepare(folder)
        for number in range(24):
            search = {
                "weights": WEIGHTS[number % len(WEIGHTS)],
                "beam": rng.randint(1, 6),
                "normalize": rng.choice((0.0, 0.6, 1.0)),
                "factor": rng.choice((1, 2, 3)),
                "sources": [
                    [*(rng.randint(1, WORDS - 1) for _ in range(rng.randint(1, LONGEST))), 0]
                    for _ in range(SOURCES)
                ],
            }
            lines = "".join(made.words(ids) + "\n" for ids in search["sources"])
            (folder / "source.txt").write_text(lines)
            weights = made.weights(search["weights"], variant["shapes"])
            made.write(folder / "m.npz", weights, variant["config"], False)
            text = made.marian(
                f"decode -m m.npz -v source.yml target.yml {made.COMMON} --maxi-batch 1 "
                f"--mini-batch 1 -b {search['beam']} -n {search['normalize']} --n-best --allow-unk "
                f"--max-length-factor {search['factor']} -i source.txt",
                folder,
            )
            lists: list[list[Any]] = [[] for _ in search["sources"]]
            for line in text.splitlines():
                at, output, _, score = (part.strip() for part in line.split("|||"))
                ids = [1 if word == "<unk>" else int(word[1:]) for word in output.split()]
                lists[int(at)].append([float(score), ids])
            found.append(search | {"found": lists})
    return {"program": "pymarian 1.12.42", "seed": SEED, "searches": found}


def main(program: str, *rest: str) -> None:
    document = globals()[program](*map(Path, rest))
    path = HERE / f"{program}.json.xz"
    path.write_bytes(lzma.compress(json.dumps(document).encode()))
    files = sorted(HERE.glob("*.xz"))
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (HERE / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
