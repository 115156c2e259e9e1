"""A caller that is slow to send its body costs nobody else a place."""

import asyncio
from typing import Any

import orjson
import pytest

from app.settings import Settings
from tests.unit.app.conftest import running


@pytest.mark.parametrize("path", ["/recommend", "/events", "/items/i1/similar"])
async def test_a_caller_that_never_sends_its_body_holds_no_place_and_gets_408(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The one place there is stays free for others, until the silent caller is told that it was waited for."""
    async with running(settings.model_copy(update={"max_concurrency": 1})) as (_, client):
        app = client._transport.app  # type: ignore[attr-defined]
        monkeypatch.setattr("app.limits.BODY_TIMEOUT_S", 0.5)
        waiting, sent = asyncio.Event(), []

        async def receive() -> dict[str, Any]:
            waiting.set()
            return await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
        silent = asyncio.create_task(app(scope, receive, send))
        await asyncio.wait_for(waiting.wait(), 30)
        assert (await client.post("/recommend", json={})).status_code == 200
        await asyncio.wait_for(silent, 30)
    assert [message.get("status") for message in sent] == [408, None]
    assert (b"connection", b"close") in sent[0]["headers"], "what it may still send is not the next request"
    assert orjson.loads(sent[1]["body"])["error"]["code"] == "body_too_slow"
