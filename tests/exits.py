"""An interpreter that ends in the middle of things: `python tests/exits.py NUMBER` starts batches,
event loops, streams and states, and leaves what NUMBER says as it is. Knows how to leave a mess."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading

import models

from s2s_engine import CancelToken, Engine

KEPT: list[object] = []


def leave(number: int) -> None:
    """Everything of the engine is in use; the number picks what is left open."""
    engine = Engine.load(models.lstm_luong(), threads=2)
    engine.decode([4, 5], beam_size=3)
    engine.decode_batch([[4], [5]] * 9, batch_size=2)
    asyncio.run(engine.decode_async([4, 5]))
    found = engine.decode_iter(itertools.repeat([4, 5]), batch_size=2, threads=1 + number % 3)
    stream = engine.stream([4, 5], max_length=12)
    state = engine.start([4, 5]).feed([3])
    next(found), next(stream)
    if number % 2:
        KEPT.extend([engine, found, stream, state])
    if number % 5 == 0:
        token = CancelToken()
        thread = threading.Thread(target=engine.decode, args=([4, 5],), kwargs={"cancel": token})
        thread.start()
    if number % 7 == 0:
        engine.close()


if __name__ == "__main__":
    leave(int(sys.argv[1]))
