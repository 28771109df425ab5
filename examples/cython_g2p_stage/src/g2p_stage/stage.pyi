from pathlib import Path

from s2s_engine import Engine

class Stage:
    def __init__(self, engine: Engine) -> None: ...
    def convert(self, words: Path | str, phonemes: Path | str) -> int: ...
