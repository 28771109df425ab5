from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_Hypothesis = tuple[
    list[int],
    NDArray[np.float32],
    float,
    float,
    Literal["eos", "length", "timeout", "cancelled"],
    NDArray[np.float32] | None,
]
_Stopped = Literal["timeout", "cancelled"]

SCREEN_FROM: int

class Model:
    def __init__(
        self,
        graphs: Mapping[str, Any],
        tensors: Mapping[str, NDArray[np.float32]],
        start: int,
        end: Sequence[int],
        compute_types: Mapping[str, str] = {},
        fold_bytes: int = 256,
        screen_from: int = ...,
    ) -> None: ...
    @property
    def screened(self) -> dict[str, int]: ...
    @property
    def compute_types(self) -> dict[str, str]: ...
    @property
    def float_columns(self) -> dict[str, int]: ...
    @property
    def folded(self) -> dict[str, list[str]]: ...
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
    def with_prefix(self, prefix: Sequence[int]) -> Constraints: ...

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
        length_penalty_offset: int = 0,
        coverage_penalty: float = 0.0,
        beam_groups: int = 1,
        diversity_penalty: float = 0.0,
        sampling: tuple[float, int, float, int] | None = None,
        constraints: Constraints | None = None,
        max_nodes: int = 0,
    ) -> None: ...

class Request:
    def __init__(
        self,
        beam_size: int = 1,
        num_hypotheses: int = 1,
        alignment: bool = False,
        rules: SearchRules = ...,
    ) -> None: ...

class CancelToken:
    """Cancels the calls that it is given to as `cancel=`, from any thread, within one step, and
    for good."""

    _on_check: Callable[[], float | None] | None
    def __init__(self, parent: CancelToken | None = None) -> None: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class Found:
    @property
    def hypotheses(self) -> list[_Hypothesis]: ...
    @property
    def ids(self) -> list[int]: ...
    @property
    def source(self) -> list[int]: ...
    @property
    def stopped(self) -> _Stopped | None: ...

class IdReader:
    def __init__(
        self,
        size: int,
        prepend: Sequence[int],
        append: Sequence[int],
        max_length: int,
        words: dict[str, int],
    ) -> None: ...

class Session:
    threads: int
    screens: bool
    def __init__(
        self,
        model: Model,
        isa: str,
        threads: int = 1,
        member_bytes: int = ...,
        max_bytes: int | None = None,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def screened(self) -> list[int]: ...
    @property
    def kernel_addresses(self) -> list[int]: ...
    def workspace_bytes_for(self, length: int, beam_size: int, batch_size: int) -> float: ...
    def warm_up(
        self, source_length: int, sentences: int, request: Request, max_length: int
    ) -> None: ...
    def decode(
        self,
        inputs: list[Any],
        request: Request,
        max_length: int,
        prompt: Any = None,
        cancel: CancelToken | None = None,
        seconds: float = inf,
    ) -> Found: ...
    def decode_ids(
        self,
        x: object,
        reader: IdReader,
        request: Request | None,
        factor: int,
        addend: int,
        cancel: CancelToken | None,
        seconds: float,
        /,
    ) -> Found | None: ...
    def time_decode(
        self, inputs: list[Any], request: Request | None, max_length: int, times: int
    ) -> float: ...
    def profile(
        self, sources: list[list[Any]], request: Request, max_lengths: list[int]
    ) -> dict[str, Any]: ...
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
    def score_labels(self, inputs: list[Any], labels: Any, output: int) -> NDArray[np.float32]: ...
    def forced_logits(
        self, inputs: list[Any], target: Any, prompt: Any = None
    ) -> NDArray[np.float32]: ...

class Batch:
    def __init__(self, session: Session, request: Request) -> None: ...
    @property
    def live(self) -> int: ...
    @property
    def stopped(self) -> _Stopped | None: ...
    def join(
        self,
        sources: list[tuple[int, list[Any], int, Any, Constraints | None]],
        cancel: CancelToken | None = None,
        seconds: float = inf,
    ) -> None: ...
    def run(
        self, steps: int, cancel: CancelToken | None = None, seconds: float = inf
    ) -> list[tuple[int, Found | Exception]]: ...
    def interrupt(self) -> list[tuple[int, Found | Exception]]: ...
    def certain(self) -> list[int]: ...

class DecoderState:
    def __init__(self, session: Session, inputs: list[Any]) -> None: ...
    def feed(self, id: int, step: int) -> NDArray[np.float32]: ...
    def states(self) -> bytes: ...
    def restore(self, states: bytes) -> None: ...

class SourceRule:
    def __init__(
        self,
        *,
        prepend: Sequence[int],
        append: Sequence[int],
        truncate: int,
        pad_to: Sequence[int],
        pad_left: bool,
        pad_id: int,
        reverse: bool,
    ) -> None: ...

def hand_over(
    model: Model,
    isa: str,
    threads: int,
    max_bytes: int,
    max_input_length: int,
    request: Request,
    max_length: Sequence[int],
    timeout: float,
    rule: SourceRule,
) -> object: ...
def available_isas() -> list[str]: ...
def default_isa() -> str: ...
def usable_cpus() -> int: ...
def assume_cpus(count: int) -> None: ...
def group_quota(groups: str, mount: str) -> float: ...
def usable(allowed: int, quota: float, thread_limit: int) -> int: ...
def time_products(weight: NDArray[np.float32], isa: str, rows: int = 1) -> dict[str, float]: ...
def set_main_thread(ident: int | None, /) -> None: ...
