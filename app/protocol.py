"""uvicorn's protocol with one write for an answer: each write to a socket wakes the caller and costs more than encoding
the answer does, and uvicorn writes its head and its body one after the other."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._answers = OneWrite(transport, self.loop)
        super().connection_made(self._answers)

    def eof_received(self) -> None:
        """A caller that has sent all closes its side; the transport closes after this, and what was written goes out
        before."""
        self._answers.flush()


class OneWrite(asyncio.Transport):
    """What uvicorn uses of the transport behind it. All that one turn of the loop writes goes out after it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._unsent: list[bytes] = []

    def write(self, data: Any) -> None:
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

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
