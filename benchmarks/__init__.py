"""Benchmarks under pytest-benchmark, `pytest benchmarks/`; the suite is `s2s-engine bench`."""
