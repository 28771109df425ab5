from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_Hypothesis = tuple[
    list[int],
    NDArray[np.float32],
    float,
    float,
    Literal["eos", "length"],
    NDArray[np.float32] | None,
]

class Model:
    def __init__(
        self,
        graphs: Mapping[str, Any],
        tensors: Mapping[str, NDArray[np.float32]],
        start: int,
        end: Sequence[int],
        compute_types: Mapping[str, str] = {},
    ) -> None: ...
    @property
    def compute_types(self) -> dict[str, str]: ...
    @property
    def float_columns(self) -> dict[str, int]: ...
    @property
    def inputs(self) -> list[str]: ...

class Constraints:
    def __init__(
        self,
        *,
        prefix: Sequence[int] = (),
        end: Sequence[int] | None = None,
        suppressed: Sequence[int] = (),
        repetition_penalty: float = 1.0,
        no_repeat_ngram_size: int = 0,
        automaton: tuple[list[int], list[int], list[int], list[bool], int] | None = None,
        continuations: Callable[[list[int]], Iterable[int]] | None = None,
    ) -> None: ...

class SearchRules:
    def __init__(
        self,
        *,
        ended: str = "leave",
        stop: str = "best",
        limit: str = "compete",
        finished_limit: int = 1,
        min_length: int = 0,
        length_penalty: float = 0.0,
        length_penalty_kind: str = "power",
        coverage_penalty: float = 0.0,
        beam_groups: int = 1,
        diversity_penalty: float = 0.0,
        sampling: tuple[float, int, float, int] | None = None,
        constraints: Constraints | None = None,
        max_nodes: int = 0,
    ) -> None: ...

class Session:
    threads: int
    def __init__(
        self, model: Model, isa: str, threads: int = 1, member_bytes: int = ...
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def kernel_addresses(self) -> list[int]: ...
    def decode(
        self,
        inputs: list[Any],
        beam_size: int,
        num_hypotheses: int,
        alignment: bool,
        max_length: int,
        prompt: Any = None,
        rules: SearchRules = ...,
    ) -> list[_Hypothesis]: ...
    def score(
        self,
        inputs: list[Any],
        target: Any,
        alignment: bool,
        prompt: Any = None,
        rules: SearchRules = ...,
    ) -> _Hypothesis: ...
    def encode(self, inputs: list[Any]) -> dict[str, NDArray[np.float32]]: ...
    def label(self, inputs: list[Any], output: int) -> tuple[list[int], NDArray[np.float32]]: ...
    def forced_logits(
        self, inputs: list[Any], target: Any, prompt: Any = None
    ) -> NDArray[np.float32]: ...

def available_isas() -> list[str]: ...
def default_isa() -> str: ...
def usable_cpus() -> int: ...
def assume_cpus(count: int) -> None: ...
def group_quota(groups: str, mount: str) -> float: ...
def usable(allowed: int, quota: float, thread_limit: int) -> int: ...
def time_products(weight: NDArray[np.float32], isa: str, rows: int = 1) -> dict[str, float]: ...
def decode_batch(
    sessions: list[Session],
    sources: list[list[Any]],
    beam_size: int,
    num_hypotheses: int,
    alignment: bool,
    max_lengths: list[int],
    batch_size: int,
    prompts: list[Any],
    rules: SearchRules = ...,
) -> list[list[_Hypothesis]]: ...
