"""The model that ships with the package, and where it lies. Knows one path and nothing else."""

from __future__ import annotations

from pathlib import Path


def demo_model() -> Path:
    """The path of the shipped model: English spelling to phonemes (docs/model-card.md)."""
    return Path(__file__).with_name("data") / "g2p.safetensors"
