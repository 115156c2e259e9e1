"""How answers are written to a connection."""

import asyncio
from typing import Any

from app.one_write import OneWrite


class Written(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[Any] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def both() -> tuple[Written, OneWrite]:
    behind = Written()
    return behind, OneWrite(behind, asyncio.get_running_loop())


async def test_what_one_turn_of_the_loop_writes_goes_out_as_one() -> None:
    behind, transport = both()
    transport.write(b"head ")
    transport.write(bytearray(b"body"))
    assert not behind.writes
    await asyncio.sleep(0)
    assert behind.writes == [b"head body"]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert behind.writes == [b"head body", b"next"]


async def test_closing_sends_what_was_written_first() -> None:
    behind, transport = both()
    transport.write(b"last words")
    transport.close()
    assert (behind.writes, behind.closed) == ([b"last words"], True)
    await asyncio.sleep(0)
    assert behind.writes == [b"last words"]


async def test_nothing_is_written_to_a_connection_that_was_lost_meanwhile() -> None:
    behind, transport = both()
    transport.write(b"for nobody")
    behind.close()
    await asyncio.sleep(0)
    assert not behind.writes
