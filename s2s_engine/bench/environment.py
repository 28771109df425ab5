"""The machine and the software of a run, and the settings that must be there before NumPy loads.
Knows the operating system and package versions; nothing of workloads."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__, _core

PACKAGES = ("numpy", "torch", "onnxruntime", "openvino")
# BLAS and OpenMP read these when they are loaded. OpenMP's threads are set by each call.
VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def variables(threads: int) -> dict[str, str]:
    """The environment of a run whose BLAS is to have so many threads."""
    return dict.fromkeys(VARIABLES, str(threads))


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "isa": _core.default_isa(),
        "system": platform.platform(),
    }


def software() -> dict[str, str]:
    from importlib import metadata

    versions = {"python": platform.python_version(), "s2s_engine": __version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def moment() -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "load_average": load}


def cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    return _cpu_named(text) or platform.processor() or "unknown"


def _cpu_named(text: str) -> str:
    """The name in /proc/cpuinfo, with family and model: virtual machines hide more of it."""
    fields: Mapping[str, str] = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    if "model name" not in fields:
        return ""
    family, model = fields.get("cpu family", "?"), fields.get("model", "?")
    return f"{fields['model name']} (family {family}, model {model})"
