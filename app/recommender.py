"""THE FLOW. One request, from entry to answer:

    state -> history -> user vector -> candidates from several sources -> filters -> ranking -> top k -> answer

Redis is awaited here, on the event loop. The rest runs in the compute thread, for as many requests at once as are
waiting; app/flow.py has those stages, one line each.
"""

import asyncio
import math
import time
from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import orjson

from app.batcher import Batcher
from app.call import Call, check_request, resolve_items
from app.engine import Engine
from app.feature_store.errors import FeatureStoreUnavailable
from app.feature_store.store import FeatureStore
from app.flow import Flow
from app.settings import Settings
from app.wire import Degraded, Recommendation, RecommendRequest, ServedBy


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Answered(NamedTuple):
    """body: a Recommendation as JSON. It is encoded where it was made: the event loop would find its hundred little
    parts gone from the processor's cache.  served_by, degraded: of it."""

    body: bytes
    served_by: ServedBy
    degraded: list[Degraded]

    def decoded(self) -> Recommendation:
        found: Recommendation = orjson.loads(self.body)
        return found


class Recommender:
    """Made inside a running event loop; `close` ends its thread.

    current: the engine to answer a new request with.  store: where user states are; None answers from the request
    alone.  now_ms: the wall clock, ms since 1970.  clock: seconds, monotonic.  observe: called with each stage and
    its seconds.
    """

    def __init__(
        self,
        current: Callable[[], Engine],
        store: FeatureStore | None,
        settings: Settings,
        now_ms: Callable[[], int] = wall_clock_ms,
        clock: Callable[[], float] = time.perf_counter,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self._current = current
        self._store = store
        self._settings = settings
        self._now_ms = now_ms
        self._clock = clock
        self._flow = Flow(settings, clock, observe)
        self._batcher: Batcher[Call, Answered] = Batcher(self._compute, settings.max_batch)

    async def recommend(self, request: RecommendRequest) -> Answered:
        """The list for one request. Raises InvalidRequest for a name that the active bundle does not know."""
        call = self._begin(request)
        with self._batcher.expecting():
            await self._read_state(call)
        return await self._batcher.submit(call)

    def close(self) -> None:
        self._batcher.close()

    def _begin(self, request: RecommendRequest) -> Call:
        """The call is bound to one engine here, and to no other later."""
        call = Call(request, self._current(), self._now_ms(), self._clock())
        check_request(request, call.engine)
        resolve_items(call)
        deadline_ms = request.deadline_ms or self._settings.deadline_ms
        call.deadline_s = call.started_s + deadline_ms / 1000 if deadline_ms else math.inf
        return call

    async def _read_state(self, call: Call) -> None:
        """One round trip. Without the feature store the answer goes on from the request's own history."""
        user_id = call.request.user_id
        if user_id is None or self._store is None:
            return
        left_s = call.deadline_s - self._clock()
        try:
            if left_s > 2 * self._settings.redis_read_timeout_ms / 1000:  # the store's own bound comes first
                call.state = await self._store.state(user_id)
            else:
                async with asyncio.timeout(left_s):
                    call.state = await self._store.state(user_id)
        except (FeatureStoreUnavailable, TimeoutError):
            call.degraded.append("feature_store")

    def _compute(self, calls: list[Call]) -> list[Answered]:
        """While bundles are swapped, calls of two engines may share a batch: each engine's calls run on their own."""
        return [
            Answered(orjson.dumps(done), done["served_by"], done["degraded"])
            for _, group in groupby(calls, lambda call: id(call.engine))
            for done in self._flow.run(list(group))
        ]
