"""The service's answers, without a network: `python check.py`. Knows statuses."""

from __future__ import annotations

import asyncio
from collections import Counter

from httpx import ASGITransport, AsyncClient, Response
from service import application

from s2s_engine import Engine, demo_model


async def check() -> None:
    app = application(max_queue=3)
    transport = ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="http://service") as client,
    ):

        async def ask(word: str, timeout: float = 10.0) -> Response:
            return await client.post("/phonemes", json={"word": word, "timeout": timeout})

        expected = Engine.load(demo_model()).decode(list("phonograph")).tokens
        answer = await ask("phonograph")
        assert (answer.status_code, answer.json()["phonemes"]) == (200, expected)

        answer = await ask("phönograph")
        assert answer.status_code == 422 and "token 2 of the input" in answer.json()["error"]
        assert (await ask("")).status_code == 422

        answer = await ask("phonograph", timeout=0.0)
        assert (answer.status_code, answer.json()["phonemes"]) == (504, [])

        # One runs and three wait; the others are refused at once.
        word = "antidisestablishmentarianism" * 20
        answers = await asyncio.gather(*(ask(word) for _ in range(40)))
        statuses = Counter(one.status_code for one in answers)
        assert set(statuses) == {200, 503} and statuses[200] >= 4, statuses
        refused = next(one for one in answers if one.status_code == 503)
        assert refused.headers["retry-after"] == "1" and "max_queue" in refused.json()["error"]
        print(f"200, 422, 503, 504 as they should be; {statuses[503]} of 40 at once were refused")


if __name__ == "__main__":
    asyncio.run(check())
