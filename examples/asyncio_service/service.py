"""Words to phonemes over HTTP. Knows requests and statuses; queues, deadlines and threads are the
engine's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from s2s_engine import DecodeTimeout, Engine, EngineBusy, InputError, demo_model


class Word(BaseModel):
    word: str = Field(min_length=1, max_length=1000)
    timeout: float = Field(default=0.1, ge=0.0, le=10.0)


def application(model: str | None = None, *, threads: int = 1, max_queue: int = 64) -> FastAPI:
    """max_queue: requests that may wait for one of the engine's threads."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        source = demo_model() if model is None else model
        with Engine.load(source, threads=threads, max_queue=max_queue) as engine:
            engine.warm_up(100)
            app.state.engine = engine
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/phonemes")
    async def phonemes(request: Request, word: Word) -> dict[str, list[str]]:
        engine: Engine = request.app.state.engine
        result = await engine.decode_async(list(word.word), timeout=word.timeout)
        return {"phonemes": result.tokens}

    @app.exception_handler(InputError)
    async def cannot_take(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(EngineBusy)
    async def busy(_: Request, error: EngineBusy) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})

    @app.exception_handler(DecodeTimeout)
    async def late(_: Request, error: DecodeTimeout) -> JSONResponse:
        found = [] if error.result is None else error.result.tokens
        return JSONResponse({"error": str(error), "phonemes": found}, 504)

    return app


app = application()
