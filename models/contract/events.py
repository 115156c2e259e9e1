"""What `/events` accepts, and the rules by which one event of a well-formed batch is refused."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.contract.ids import MAX_ID_LENGTH
from models.contract.schema import Schema

MAX_AGE_MS = 24 * 3600 * 1000
MAX_AHEAD_MS = 5 * 60 * 1000
MAX_CONTEXT_KEYS = 32


def parse_time(value: object) -> object:
    """Milliseconds since 1970 of an ISO 8601 text; one without a zone is UTC. Anything else is left to pydantic."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is neither milliseconds since 1970 nor ISO 8601, e.g. 2026-11-21T20:41:07Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def context_text(value: object) -> object:
    """Context values are texts; a number or a boolean is written as JSON would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not a finite number")
    return repr(value) if isinstance(value, int | float) else value


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Time = Annotated[
    int,
    BeforeValidator(parse_time),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "format": "date-time"}]}),
]
ContextValue = Annotated[
    str,
    Field(max_length=MAX_ID_LENGTH),
    BeforeValidator(context_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "maxLength": MAX_ID_LENGTH}, {"type": "number"}, {"type": "boolean"}]}
    ),
]


class Event(BaseModel):
    """Something a user did with an item."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    event_id: Id | None = Field(
        None, description="The caller's name for this event, unique for the user: with it, sending again is harmless"
    )
    event_type: Id = Field(description="What happened: one of the event types of the active bundle, e.g. purchase")
    user_id: Id = Field(description="Who did it")
    item_id: Id = Field(description="With which item; an item that no bundle knows is kept, with a warning")
    time: Time | None = Field(
        None, description="When: milliseconds since 1970, or ISO 8601 (UTC unless it says otherwise); absent means now"
    )
    value: float | None = Field(None, description="An amount, e.g. the price paid or the seconds watched")
    context: dict[Id, ContextValue] = Field(
        {}, max_length=MAX_CONTEXT_KEYS, description="Circumstances, by the names that the active bundle declares"
    )
    recommendation_id: Id | None = Field(None, description="The answer of /recommend that showed the item")
    position: int | None = Field(None, ge=1, le=2**31 - 1, description="The item's rank in that answer, from 1")

    def digest(self) -> bytes:
        """16 bytes that are equal for equal content. A `time` that is absent counts as absent, not as now."""
        return blake2b(orjson.dumps(self.model_dump(), option=orjson.OPT_SORT_KEYS), digest_size=16).digest()

    def record(self, time_ms: int, clock_shift_ms: int = 0) -> dict[str, Any]:
        """The event as it is written to the stream, at the time it counts for.

        clock_shift_ms: of the bundle that takes the event; training needs it to bring the time back to the data's.
        """
        return {
            "user": self.user_id,
            "item": self.item_id,
            "type": self.event_type,
            "time_ms": time_ms,
            "value": self.value,
            "context": self.context,
            "recommendation_id": self.recommendation_id,
            "position": self.position,
            "event_id": self.event_id,
            "clock_shift_ms": clock_shift_ms,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event is not taken.  code: stable, for programs.  message: for people, says what to do."""

    code: str
    message: str


def refusal(event: Event, schema: Schema, now_ms: int) -> Refusal | None:
    """The first rule that the event breaks, or None."""
    time_ms = now_ms if event.time is None else event.time
    if event.event_type not in schema.event_types:
        known = ", ".join(schema.event_types)
        return Refusal("unknown_event_type", f"event_type {event.event_type!r} is not one of: {known}")
    if time_ms < now_ms - MAX_AGE_MS:
        return Refusal("too_old", "time is more than 24 hours ago; bring older events in by training data")
    if time_ms > now_ms + MAX_AHEAD_MS:
        return Refusal("in_future", "time is more than 5 minutes ahead of the server's clock")
    unknown = sorted(set(event.context) - set(schema.event_context))
    if unknown:
        known = ", ".join(schema.event_context) or "none"
        return Refusal("unknown_context", f"context has {unknown[0]!r}; the known names are: {known}")
    return None
