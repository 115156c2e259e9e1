"""The sockets of the workers: one each on one port."""

import os
import socket

from app.settings import Settings
from app.workers import CannotStart


def listen(settings: Settings) -> list[socket.socket]:
    """One socket per worker on one port, so that the kernel spreads connections evenly.

    They are bound here and begin to listen in the workers, when those are ready.
    """
    try:
        # With SO_REUSEPORT two services could share a port unnoticed; a plain socket fails if anyone listens there.
        with socket.socket(_family(settings), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
            chosen = settings.model_copy(update={"port": probe.getsockname()[1]})
            probe.listen(1)
        return [bind(chosen) for _ in range(settings.workers)]
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "the name is not known"
        raise CannotStart(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another with --host or --port"
        ) from error


def bind(settings: Settings) -> socket.socket:
    listener = socket.socket(_family(settings), socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind((settings.host, settings.port))
    return listener


def _family(settings: Settings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in settings.host else socket.AF_INET
