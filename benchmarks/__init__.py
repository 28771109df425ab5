"""Benchmarks of s2s_engine: `pytest benchmarks/` and `python -m benchmarks.compare`."""
