"""One write for an answer: each write to a socket wakes the caller and costs more than encoding the answer does, and
uvicorn writes the head and the body of an answer one after the other."""

import asyncio
from typing import Any


class OneWrite(asyncio.Transport):
    """What uvicorn uses of the transport behind it. All that one turn of the loop writes goes out after it.

    lingers: the first `close` ends this side alone (`ended`), and waits for the caller's. Closing a socket that holds
    unread bytes makes the kernel send a reset, on which a caller's throws away the answer that it has not read yet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._unsent: list[bytes] = []
        self.lingers = False
        self.ended = False

    def write(self, data: Any) -> None:
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(data)

    def close(self) -> None:
        self.flush()
        if self.lingers and not self.ended and not self._transport.is_closing():
            self.ended = True
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self.ended or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def flush(self) -> None:
        if self._unsent and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
