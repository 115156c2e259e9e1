"""A batch of events as runs of apply_events.lua: judged, put together by user, cut into pieces that are soon done."""

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from app.feature_store.keys import Keys, ids_ttl_ms, partition
from app.feature_store.scripts import Call, Script
from models.contract.events import Event, Refusal, refusal
from models.contract.ids import hash_id, hash_name
from models.contract.schema import Schema

APPLY_EVENTS = Script.read("apply_events")
# Events sent to Redis at once, while it answers nobody else: 2 to 3 ms for those of one user, 8 ms for as many users
# whose histories and seen items are at their limits. See docs/decisions/30-event-batches.md.
PIECE = 16
SORTED_BY = struct.Struct("<qQIB")  # time in ms, item hash, type hash, and 1 if the event counts as seen
CONFLICT = Refusal("conflict", "event_id was already used by this user for an event with other content")

Piece = list[list[int]]  # for each user, the places of events in their batch


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of one event.  code, message: why it was refused.  time_ms: the moment it counts for."""

    status: Literal["accepted", "duplicate", "refused"]
    time_ms: int
    code: str | None = None
    message: str | None = None


class Batch:
    """Events that came together.

    results: in the events' order; of those that no rule refuses, accepted until Redis has had its say.
    clock_shift_ms: the active bundle's, kept with each event for the training that will read it.
    """

    def __init__(self, events: Sequence[Event], keys: Keys, schema: Schema, now_ms: int, clock_shift_ms: int) -> None:
        self._events, self._keys, self._schema = events, keys, schema
        self._now_ms, self._clock_shift_ms = now_ms, clock_shift_ms
        self.results = [_judge(event, schema, now_ms) for event in events]

    def pieces(self) -> list[Piece]:
        """What Redis is to store, PIECE events at a time. A user's stand together, in their order: the script takes a
        state apart once for all events that it is given, which is most of its work."""
        of_user: defaultdict[str, list[int]] = defaultdict(list)
        for i, result in enumerate(self.results):
            if result.status == "accepted":
                of_user[self._events[i].user_id].append(i)
        pieces: list[Piece] = []
        room = 0
        for mine in of_user.values():
            while mine:
                if not room:
                    pieces.append([])
                    room = PIECE
                part, mine = mine[:room], mine[room:]
                pieces[-1].append(part)
                room -= len(part)
        return pieces

    def calls(self, piece: Piece) -> list[Call]:
        """A run of the script for each user."""
        return [self._call(places) for places in piece]

    def answered(self, piece: Piece, replies: Sequence[Sequence[bytes]]) -> None:
        """Take down what the runs returned."""
        for places, statuses in zip(piece, replies, strict=True):
            for i, status in zip(places, statuses, strict=True):
                self.results[i] = _result(status, self.results[i].time_ms)

    def _call(self, places: Sequence[int]) -> Call:
        user_id, schema = self._events[places[0]].user_id, self._schema
        keys = [self._keys.state(user_id), self._keys.events(partition(user_id))]
        keys += self._keys.event_ids(user_id, self._now_ms)
        args: list[str | bytes | int] = [schema.history_limit, schema.seen_limit, ids_ttl_ms(self._now_ms)]
        for i in places:
            event, time_ms = self._events[i], self.results[i].time_ms
            seen = event.event_type in schema.seen_types
            args += (
                SORTED_BY.pack(time_ms, hash_id(event.item_id), hash_name(event.event_type), seen),
                event.item_id,
                orjson.dumps(event.record(time_ms, self._clock_shift_ms)),
                event.event_id or "",
                event.digest(),
            )
        return Call(keys, args)


def _judge(event: Event, schema: Schema, now_ms: int) -> EventResult:
    time_ms = now_ms if event.time is None else event.time
    why = refusal(event, schema, now_ms)
    return EventResult("accepted", time_ms) if why is None else EventResult("refused", time_ms, why.code, why.message)


def _result(reply: bytes, time_ms: int) -> EventResult:
    if reply == b"conflict":
        return EventResult("refused", time_ms, CONFLICT.code, CONFLICT.message)
    return EventResult("duplicate" if reply == b"duplicate" else "accepted", time_ms)
