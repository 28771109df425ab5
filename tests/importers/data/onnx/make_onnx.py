"""Writes dynamo.zip: the networks of onnx_networks.py through torch.onnx.export(dynamo=True).

Made once with torch 2.13.0, onnx 1.23.2 and onnxscript 0.7.2 (pip install torch onnx onnxscript),
seed 1: python tests/importers/data/onnx/make_onnx.py [folder]. Each graph has a process of its own:
behind the first export of a process this torch fixes the length of the next ones.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
NETWORKS = {
    "example": "networks.example()",
    "plain": "networks.plain()",
    "additive": "networks.additive()",
    "slots": "networks.slots()",
    "general": "networks.luong(True)",
    "concat": "networks.concat()",
    "cell": "networks.cell()",
    "tagger": "(networks.tagger(),)",
    "unrolled": "(networks.tagger(torch.nn.RNN),)",
}
ROLES = ("encoder", "decoder")
# Graphs that are another network's are not stored twice.
SAME = {"additive/encoder": "plain/encoder", "cell/encoder": "plain/encoder"}


def wanted() -> list[str]:
    """The graphs that are stored, `network/role`, in their order."""
    pairs = {name: ROLES[:1] if name in ("tagger", "unrolled") else ROLES for name in NETWORKS}
    names = [f"{network}/{role}" for network, roles in pairs.items() for role in roles]
    return [name for name in names if name not in SAME]


def imported() -> None:
    """What every export imports: once, here, instead of in each of the processes."""
    import onnx  # noqa: F401
    import onnx_networks  # noqa: F401
    import onnxscript.optimizer  # noqa: F401
    import torch._dynamo
    import torch.onnx._internal.exporter._core

    torch.set_num_threads(1)


def graph(name: str) -> bytes:
    """Exports one graph, and takes what names this machine out."""
    import onnx
    import onnx_networks as networks
    import torch

    network, role = name.split("/")
    graphs = eval(NETWORKS[network], {"networks": networks, "torch": torch})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        graphs[ROLES.index(role)].export(path, True)
        model = onnx.load(path)
        for node in model.graph.node:
            del node.metadata_props[:]  # stack traces, with paths
        onnx.save(model, path)
        return path.read_bytes()


def main() -> None:
    """All graphs into one archive without dates, and its SHA-256 beside it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    imported()
    forks = multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1)
    archive = zipfile.ZipFile(folder / "dynamo.zip", "w", zipfile.ZIP_DEFLATED)
    with forks, archive:
        names = wanted()
        for name, data in zip(names, forks.imap(graph, names, chunksize=1), strict=True):
            entry = zipfile.ZipInfo(f"{name}.onnx")
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    digest = hashlib.sha256((folder / "dynamo.zip").read_bytes()).hexdigest()
    (folder / "SHA256").write_text(f"{digest}  dynamo.zip\n")


if __name__ == "__main__":
    main()
