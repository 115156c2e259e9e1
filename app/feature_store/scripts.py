"""The Lua scripts beside this file, run by their hash and loaded again when the server has forgotten them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.feature_store.connection import Client


@dataclass(frozen=True, slots=True)
class Script:
    """A server-side script: all or nothing, on keys of one slot."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def read(cls, name: str) -> "Script":
        return cls((Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    keys: Sequence[str]
    args: Sequence[str | bytes | int]


async def run(client: Client, script: Script, calls: Sequence[Call], slots: asyncio.Semaphore) -> list[Any]:
    """Run one script for each call and return the answers in order. Raises redis.RedisError if any call fails.

    slots: as many as the client has connections; a cluster's client would fail rather than wait for one.
    """
    replies = await _send(client, script, calls, slots)
    forgotten = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:  # after a restart; those calls did nothing
        await client.script_load(script.text)
        again = await _send(client, script, [calls[i] for i in forgotten], slots)
        for i, reply in zip(forgotten, again, strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


async def _send(client: Client, script: Script, calls: Sequence[Call], slots: asyncio.Semaphore) -> list[Any]:
    if isinstance(client, Redis):
        async with slots, client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(script.sha, len(call.keys), *call.keys, *call.args)
            return await pipeline.execute(raise_on_error=False)

    async def send(call: Call) -> Any:
        async with slots:
            try:
                return await client.evalsha(script.sha, len(call.keys), *call.keys, *call.args)
            except ResponseError as error:
                return error

    return await asyncio.gather(*map(send, calls))  # redis-py does not pipeline EVALSHA on a cluster
