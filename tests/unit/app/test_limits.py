"""Bounds on bodies and on what is in work at once."""

import asyncio
from typing import Any

import pytest

from app.errors import BodyTooLarge, Overloaded
from app.limits import Disconnected, Gate, Message, bounded, check_length, read_body, replayed


def test_beyond_the_limit_requests_are_turned_away_and_events_only_beyond_twice_that() -> None:
    gate = Gate(2)
    with gate.admit(False), gate.admit(False):
        with pytest.raises(Overloaded), gate.admit(False):
            pass
        with gate.admit(True), gate.admit(True):
            assert gate.in_work == 4
            with pytest.raises(Overloaded), gate.admit(True):
                pass
        with pytest.raises(Overloaded), gate.admit(False):
            pass
    assert gate.in_work == 0
    with gate.admit(False):
        assert gate.in_work == 1


def test_a_place_is_given_back_when_the_request_fails() -> None:
    gate = Gate(1)
    with pytest.raises(KeyError), gate.admit(False):
        raise KeyError
    assert gate.in_work == 0


def test_an_announced_length_is_refused_from_one_byte_over() -> None:
    check_length([(b"content-length", b"10"), (b"host", b"x")], 10)
    check_length([], 10)
    for length in (b"11", b"9" * 30):
        with pytest.raises(BodyTooLarge):
            check_length([(b"content-length", length)], 10)


def stream(*parts: bytes, end: dict[str, Any] | None = None) -> Any:
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append(end or {"type": "http.request", "body": b"", "more_body": False})
    source = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(source)

    return receive


async def test_a_stream_is_cut_at_the_first_byte_over_the_limit() -> None:
    assert await read_body(stream(b"12345", b"67890"), 10) == b"1234567890"
    for source, limit in ((stream(b"12345", b"678901"), 10), (bounded(stream(b"12345", b"678901"), 10), 100)):
        with pytest.raises(BodyTooLarge):
            await read_body(source, limit)


async def test_a_caller_that_goes_away_is_noticed() -> None:
    with pytest.raises(Disconnected):
        await read_body(stream(b"1", end={"type": "http.disconnect"}), 10)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [((b"12", b"34", b"5"), b"12345"), ((b"12345", b"67890", b"1"), BodyTooLarge), ((b"1", b"2"), Disconnected)],
)
async def test_a_body_that_is_waited_for_is_read_as_one_that_is_there(
    parts: tuple[bytes, ...], expected: bytes | type[Exception]
) -> None:
    """Each part comes some turns of the loop after it was asked for."""
    at_once = stream(*parts, end={"type": "http.disconnect"} if expected is Disconnected else None)

    async def receive() -> Message:
        await asyncio.sleep(0.001)
        return await at_once()

    if isinstance(expected, bytes):
        assert await read_body(receive, 10) == expected
    else:
        with pytest.raises(expected):
            await read_body(receive, 10)


async def test_a_cancelled_wait_for_a_body_ends_where_it_waits() -> None:
    waiting, ended = asyncio.Event(), []

    async def receive() -> Message:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            ended.append("receive")
        raise AssertionError

    reading = asyncio.create_task(read_body(receive, 10))
    await waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended == ["receive"]


async def test_a_body_that_was_read_is_given_again_and_then_the_stream_goes_on() -> None:
    source = stream(end={"type": "http.disconnect"})
    receive = replayed(b"12", source)
    assert await receive() == {"type": "http.request", "body": b"12", "more_body": False}
    assert await receive() == {"type": "http.disconnect"}
