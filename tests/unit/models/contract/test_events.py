"""The wire model of an event, and the rules by which one of a well-formed batch is refused."""

import pytest
from pydantic import ValidationError

from models.contract.events import MAX_AGE_MS, MAX_AHEAD_MS, Event, refusal
from models.contract.schema import Schema

NOW_MS = 1_795_300_000_000
SCHEMA = Schema(event_types=["view", "purchase"], seen_types=[], event_context=["store"])
LEAST = {"user_id": "u", "item_id": "i", "event_type": "view"}


def parse(**fields: object) -> Event:
    return Event.model_validate({**LEAST, **fields})


@pytest.mark.parametrize(
    ("time", "expected_ms"),
    [
        (1_795_300_000_123, 1_795_300_000_123),
        ("2026-11-21T20:41:07Z", 1_795_293_667_000),
        ("2026-11-21T20:41:07.123456+01:00", 1_795_290_067_123),
        ("2026-11-21T20:41:07", 1_795_293_667_000),
        ("1969-12-31T23:59:59.999Z", -1),
        (None, None),
    ],
)
def test_time_is_milliseconds_or_iso_8601_and_utc_unless_it_says_otherwise(
    time: object, expected_ms: int | None
) -> None:
    assert parse(time=time).time == expected_ms


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", 1.5),
        ("time", True),
        ("time", "yesterday"),
        ("time", "1795300000123"),
        ("user_id", ""),
        ("user_id", "u" * 129),
        ("user_id", 7),
        ("item_id", None),
        ("event_id", "e" * 129),
        ("value", float("nan")),
        ("value", float("inf")),
        ("value", "3.99"),
        ("value", True),
        ("context", {"store": float("nan")}),
        ("context", {"store": ["a"]}),
        ("context", {"store": "x" * 129}),
        ("context", {f"c{n}": "x" for n in range(33)}),
        ("position", 0),
        ("position", "4"),
        ("position", 4.0),
        ("position", 2**31),
        ("colour", "red"),
    ],
)
def test_a_malformed_field_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(**{field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_a_json_body_with_nan_is_refused() -> None:
    with pytest.raises(ValidationError, match="value"):
        Event.model_validate_json(b'{"user_id":"u","item_id":"i","event_type":"view","value":NaN}')


def test_ids_of_128_characters_and_the_largest_position_are_taken() -> None:
    event = parse(user_id="ü" * 128, event_id="e" * 128, position=2**31 - 1)
    assert (len(event.user_id), event.position) == (128, 2**31 - 1)


def test_context_values_become_texts() -> None:
    assert parse(context={"a": 7, "b": 1.5, "c": True, "d": "x"}).context == {
        "a": "7",
        "b": "1.5",
        "c": "true",
        "d": "x",
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, None),
        ({"time": NOW_MS - MAX_AGE_MS}, None),
        ({"time": NOW_MS - MAX_AGE_MS - 1}, "too_old"),
        ({"time": NOW_MS + MAX_AHEAD_MS}, None),
        ({"time": NOW_MS + MAX_AHEAD_MS + 1}, "in_future"),
        ({"time": -1}, "too_old"),
        ({"time": 10**30}, "in_future"),
        ({"event_type": "wink"}, "unknown_event_type"),
        ({"context": {"store": "1"}}, None),
        ({"context": {"store": "1", "shelf": "2"}}, "unknown_context"),
    ],
)
def test_each_rule_at_its_edge(fields: dict[str, object], code: str | None) -> None:
    found = refusal(parse(**fields), SCHEMA, NOW_MS)
    assert (found.code if found else None) == code


def test_the_digest_is_of_the_content_as_sent() -> None:
    """Equal for another spelling of the same content, different for each field that differs."""
    first = parse(time="2026-11-21T20:41:07Z", value=1, context={"a": 7, "b": "x"})
    same = parse(time=1_795_293_667_000, value=1.0, context={"b": "x", "a": "7"})
    assert first.digest() == same.digest()
    others = [
        first.model_copy(update=change)
        for change in (
            {"time": None},
            {"value": 2.0},
            {"context": {}},
            {"item_id": "j"},
            {"event_type": "purchase"},
            {"position": 1},
            {"recommendation_id": "r"},
        )
    ]
    assert len({event.digest() for event in [first, *others]}) == 8


def test_every_field_is_described_for_the_api_document() -> None:
    schema = Event.model_json_schema()
    assert all(field.get("description") for field in schema["properties"].values())
    assert schema["additionalProperties"] is False
