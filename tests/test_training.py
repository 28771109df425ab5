"""The training of the shipped model: what the penalty on scores measures, and stages that begin
with one another. It knows examples/g2p and PyTorch, and never the engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
EXAMPLE = Path(__file__).parents[1] / "examples" / "g2p"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's modules have plain names, and are forgotten behind a test."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    names = {path.stem for path in EXAMPLE.glob("*.py")}
    for name in names & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in names & set(sys.modules):
        del sys.modules[name]


@pytest.mark.usefixtures("example")
def test_sensitivity_is_the_squared_gradient_of_the_scores() -> None:
    from model import G2P, Config

    torch.manual_seed(3)
    network = G2P(Config(7, 9, embedding=4, encoder=3, decoder=5)).double().eval()
    source, previous = torch.tensor([[2, 5, 3, 1], [4, 4, 6, 1]]), torch.tensor([[1, 3], [1, 8]])
    state = network.encode(source)
    h1, _ = network.decoder1(network.target_embedding(previous), state.first)
    by_memory, by_state = [], []
    for sentence, step, position in product(range(2), range(2), range(4)):
        m = state.memory[sentence, position].detach().requires_grad_()
        h = h1[sentence, step].detach().requires_grad_()
        for_memory, for_state = torch.autograd.grad(h @ network.keys(m), (m, h))
        by_memory.append(float(for_memory.square().sum()))
        by_state.append(float(for_state.square().sum()))
    logits, found = network.with_sensitivity(source, previous)
    wanted = (sum(by_memory) + sum(by_state)) / len(by_memory)
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    assert torch.equal(logits, network(source, previous))


@pytest.mark.usefixtures("example")
def test_a_stage_begins_with_another_and_the_penalty_makes_scores_less_sensitive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train
    from evaluate import load

    dictionary = tmp_path / "small.dict"
    words = ["".join(letters) for letters in product("abc", repeat=5)]
    dictionary.write_text("".join(f"{w} {' '.join(w.upper())}\n" for w in words))

    def stage(name: str, *options: str) -> Path:
        folder = tmp_path / name
        arguments = [str(dictionary), str(folder), "--threads", "1", "--batch", "32"]
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--warmup", "1", *options])
        train.main()
        return folder / "model.pt"

    threads = torch.get_num_threads()
    first = stage("first", "--epochs", "1")
    start = ("--start", str(first), "--epochs", "2")
    free, bound = stage("free", *start), stage("bound", *start, "--score-penalty", "0.1")
    stopped = torch.load(tmp_path / "bound" / "checkpoint.pt", weights_only=True)
    torch.set_num_threads(threads)
    assert [one["epoch"] for one in stopped["stages"]] == [1] and stopped["epoch"] == 2
    assert stopped["options"]["score_penalty"] == 0.1
    with torch.inference_mode():
        source, previous = torch.tensor([[2, 3, 4, 2, 1]]), torch.tensor([[1, 3, 4, 5, 3]])
        networks = [load(path)[0] for path in (free, bound)]
        found = [float(one.with_sensitivity(source, previous)[1]) for one in networks]
    assert found[1] < 0.8 * found[0]


@pytest.mark.usefixtures("example")
def test_a_stage_refuses_weights_of_other_phonemes(tmp_path: Path) -> None:
    import train

    trainer = object.__new__(train.Trainer)
    trainer.vocabulary = train.Vocabulary(("a",), ("B",))
    with pytest.raises(ValueError, match="another dictionary"):
        trainer.check({"target_vocabulary": ["C"]})
