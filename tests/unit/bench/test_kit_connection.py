"""The load client's HTTP: answers in any pieces, told from broken ones."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from bench.kit.connection import Connection, Outcome, read_requests
from bench.kit.result import LoadFailed


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


WHOLE = answer(b'{"items":[],"served_by":"ranking","degraded":[]}')
LEFT_OUT = answer(b'{"items":[],"served_by":"ranking","degraded":["feature_store"]}')
NOT_RANKED = answer(b'{"items":[],"served_by":"popular","degraded":[]}')
YARDSTICK = answer(b'{"items":[]}')
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"


class Sink(asyncio.Transport):
    """What the connection writes and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: object) -> None:
        self.written.append(cast(bytes, data))

    def close(self) -> None:
        self.closed = True


def connected() -> tuple[Connection, Sink, list[Outcome]]:
    outcomes: list[Outcome] = []
    connection, sink = Connection(lambda _, outcome: outcomes.append(outcome)), Sink()
    connection.connection_made(sink)
    return connection, sink, outcomes


@pytest.mark.parametrize("size", [1, 7, 20, 1_000])
def test_an_answer_may_come_in_pieces(size: int) -> None:
    connection, sink, outcomes = connected()
    for text in (WHOLE, LEFT_OUT, NOT_RANKED, YARDSTICK):
        connection.send(b"request", 5)
        for start in range(0, len(text), size):
            connection.data_received(text[start : start + size])
    assert outcomes == [Outcome(200, False), Outcome(200, True), Outcome(200, True), Outcome(200, False)]
    assert (connection.open, connection.started_ns, sink.written) == (True, 5, [b"request"] * 4)


def test_after_an_error_that_closes_the_connection_nothing_more_may_be_sent() -> None:
    connection, _, outcomes = connected()
    connection.send(b"request", 0)
    connection.data_received(BUSY)
    connection.connection_lost(None)
    assert (outcomes, connection.open) == ([Outcome(503, False)], False)


def test_a_request_whose_connection_breaks_has_no_answer() -> None:
    connection, _, outcomes = connected()
    connection.send(b"request", 0)
    connection.data_received(WHOLE[:30])
    connection.connection_lost(ConnectionResetError())
    assert (outcomes, connection.open) == ([Outcome(0, False)], False)


def test_an_idle_connection_that_ends_is_no_answer() -> None:
    connection, _, outcomes = connected()
    connection.connection_lost(None)
    assert (outcomes, connection.open) == ([], False)


def test_an_answer_without_a_length_counts_as_none() -> None:
    connection, sink, outcomes = connected()
    connection.send(b"request", 0)
    connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    assert sink.closed
    connection.connection_lost(None)
    assert outcomes == [Outcome(0, False)]


def test_requests_are_the_lines_of_a_file(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text('{"k":1}\n\n{"user_id":"é"}\n', "utf-8")
    first, second = read_requests(bodies, "127.0.0.1", 80, "/recommend")
    assert first == (
        b"POST /recommend HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: application/json\r\n"
        b'Content-Length: 7\r\n\r\n{"k":1}'
    )
    assert second.endswith('Content-Length: 16\r\n\r\n{"user_id":"é"}'.encode())


def test_a_file_without_requests_is_refused(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("\n")
    with pytest.raises(LoadFailed, match="holds no request"):
        read_requests(bodies, "127.0.0.1", 80, "/recommend")
