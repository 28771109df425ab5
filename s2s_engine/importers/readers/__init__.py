"""Readers of other programs' files, format by format: names, arrays and configurations come out.
Knows containers; never a toolkit, and nothing here executes what a file says."""
