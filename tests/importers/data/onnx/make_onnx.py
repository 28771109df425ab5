"""Writes dynamo.zip: the networks of onnx_networks.py through torch.onnx.export(dynamo=True).

Made once with torch 2.13.0, onnx 1.23.2 and onnxscript 0.7.2 (pip install torch onnx onnxscript),
seed 1: python tests/importers/data/onnx/make_onnx.py [folder]. Each graph has a process of its own:
behind the first export of a process this torch fixes the length of the next ones.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
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
WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
import onnx_networks as networks
from pathlib import Path
({made})[{number}].export(Path(sys.argv[2]), True)
"""


def graph(made: str, number: int, path: Path) -> None:
    """Exports one graph in a process of its own, and takes what names this machine out."""
    import onnx

    code = WRITE.format(made=made, number=number)
    subprocess.run(
        [sys.executable, "-c", code, str(HERE.parents[1]), str(path)], check=True,
        capture_output=True,
    )  # fmt: skip
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, with paths
    onnx.save(model, path)


def main() -> None:
    """All graphs into one archive without dates, and its SHA-256 beside it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    archive = zipfile.ZipFile(folder / "dynamo.zip", "w", zipfile.ZIP_DEFLATED)
    with tempfile.TemporaryDirectory() as name, archive:
        for network, made in NETWORKS.items():
            roles = ROLES[:1] if network in ("tagger", "unrolled") else ROLES
            for number, role in enumerate(roles):
                if f"{network}/{role}" in SAME:
                    continue
                path = Path(name) / "graph.onnx"
                graph(made, number, path)
                entry = zipfile.ZipInfo(f"{network}/{role}.onnx")
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    digest = hashlib.sha256((folder / "dynamo.zip").read_bytes()).hexdigest()
    (folder / "SHA256").write_text(f"{digest}  dynamo.zip\n")


if __name__ == "__main__":
    main()
