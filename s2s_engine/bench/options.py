"""What a run can be asked for: names of workloads and peers, options, files. Data alone, so that
the command line can offer them without loading what they name."""

from __future__ import annotations

from dataclasses import dataclass, field

NAMES = ("w1", "w2", "w3", "w4", "shipped", "g2p_en")


@dataclass(frozen=True)
class Maker:
    """Where a peer is made: a function of a module of `peers`, and the packages that it needs."""

    module: str
    function: str
    packages: tuple[str, ...] = ()


_ONNX = ("onnx", "onnxruntime")
PEERS = {
    "numpy": Maker("numpy", "float32"),
    "torch": Maker("torch", "eager", ("torch",)),
    "torch-compiled": Maker("torch", "compiled", ("torch",)),
    "torch-int8": Maker("torch", "int8", ("torch",)),
    "onnx": Maker("onnx", "float32", _ONNX),
    "onnx-int8": Maker("onnx", "int8", _ONNX),
    "onnx-nbits": Maker("onnx", "nbits", _ONNX),
    "openvino": Maker("openvino", "float32", (*_ONNX, "openvino")),
    "openvino-bfloat16": Maker("openvino", "bfloat16", (*_ONNX, "openvino")),
}
# Peers that one might look for, and why they are not there.
ABSENT = {
    "marian": "its decoder runs Marian's own networks (s2s, amun, nematus), and none of them has "
    "the equations of a workload: no equal work to time",
}


@dataclass(frozen=True)
class Options:
    """model: a file in place of the workloads. seconds: that blocks of one workload and search may
    take. g2p_en: the path of its published weights, a workload of its own."""

    model: str | None = None
    workloads: list[str] = field(default_factory=list)
    g2p_en: str | None = None
    peers: list[str] = field(default_factory=list)
    threads: list[int] = field(default_factory=lambda: [1])
    blocks: int = 60
    block_ms: float = 20.0
    seconds: float = 15.0
    kernels: str | None = None
    scaling: bool = True
    profile: bool = True


@dataclass(frozen=True)
class Outputs:
    """Where the report goes, the older one that it is held against, and latencies that go into
    it."""

    json: str = "benchmarks.json"
    html: str = "benchmarks.html"
    compare: str | None = None
    loss: float = 0.1
    latency: str | None = None


@dataclass(frozen=True)
class Job:
    options: Options = field(default_factory=Options)
    outputs: Outputs = field(default_factory=Outputs)
