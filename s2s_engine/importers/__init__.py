"""Readers of other programs' model files, and the translations into this engine's models. Each
module knows one format or one family; nothing here executes what a file says."""
