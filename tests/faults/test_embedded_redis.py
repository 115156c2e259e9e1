"""The embedded server: started once a folder, stopped for good, brought back after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from app.feature_store.embedded import EmbeddedRedis, embedded_url
from app.feature_store.errors import EmbeddedRedisError


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, protocol=2, socket_timeout=5)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline


def test_starts_stops_and_keeps_what_was_written(tmp_path: Path) -> None:
    """Every write reaches the disk at once (appendfsync always), and a stopped server leaves no process or socket."""
    with EmbeddedRedis(tmp_path) as server:
        pid = server.pid
        assert server.running
        assert os.getpgid(pid) != os.getpgid(0)  # so Ctrl-C in the terminal reaches the service only
        with client(server.url) as connection:
            connection.set("a", "1")
            assert connection.config_get("appendonly") == {"appendonly": "yes"}
            assert connection.config_get("appendfsync") == {"appendfsync": "always"}
            assert connection.config_get("port") == {"port": "0"}
    assert gone(pid)
    assert not server.running
    assert not (tmp_path / "redis.sock").exists()
    assert not server.pid_file.exists()
    with EmbeddedRedis(tmp_path) as again, client(again.url) as connection:
        assert connection.get("a") == b"1"


def test_stopping_twice_or_before_starting_is_harmless(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    server.stop()
    with pytest.raises(EmbeddedRedisError, match="not started"):
        _ = server.pid
    server.start()
    server.stop()
    server.stop()


def test_a_second_start_on_the_folder_names_the_pid_file_and_what_to_do(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        with pytest.raises(EmbeddedRedisError, match=rf"pid {server.pid}, from .*redis\.pid.*kill {server.pid}"):
            EmbeddedRedis(tmp_path).start()
        with pytest.raises(EmbeddedRedisError, match=f"already runs .pid {server.pid}"):
            server.start()
        with client(server.url) as connection:
            assert connection.ping()


def test_a_stale_pid_file_is_no_obstacle(tmp_path: Path) -> None:
    """What counts is the lock that a live server holds, not a number that may be another program's by now."""
    (tmp_path / "redis.pid").write_text(f"{os.getpid()}\n")
    with EmbeddedRedis(tmp_path) as server, client(server.url) as connection:
        assert connection.ping()


def test_a_server_whose_owner_died_still_guards_the_folder(tmp_path: Path) -> None:
    """kill -9 of the service leaves its Redis running; a second one on the same files would destroy them."""
    code = (
        "import os, pathlib, sys; from app.feature_store.embedded import EmbeddedRedis; "
        "EmbeddedRedis(pathlib.Path(sys.argv[1])).start(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], check=True)
    pid = int((tmp_path / "redis.pid").read_text())
    try:
        with pytest.raises(EmbeddedRedisError, match=f"kill {pid}"):
            EmbeddedRedis(tmp_path).start()
    finally:
        os.kill(pid, signal.SIGTERM)
    until_gone(pid)
    with EmbeddedRedis(tmp_path) as server:
        assert server.pid != pid


def test_a_killed_server_comes_back_at_the_same_address(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        url, pid = server.url, server.pid
        with client(url) as connection:
            connection.set("a", "1")
        server.kill()
        assert gone(pid)
        server.start()
        assert server.url == url
        with client(url) as connection:
            assert connection.get("a") == b"1"


def test_a_server_that_does_not_listen_any_more_is_killed_at_stop(tmp_path: Path) -> None:
    """Stopped by SIGSTOP it takes neither SHUTDOWN nor SIGTERM."""
    server = EmbeddedRedis(tmp_path, stop_timeout_s=0.2)
    server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert gone(pid)


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    """The address follows from the folder, so that every process finds it, and only its owner can connect."""
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    with EmbeddedRedis(folder) as server:
        assert len(server.url) < 120
        assert EmbeddedRedis(folder).url == server.url
        socket = Path(server.url.removeprefix("unix://").removesuffix("?db=0"))
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        with client(server.url) as connection:
            assert connection.ping()
    socket.parent.rmdir()


def test_a_path_with_odd_characters_makes_a_url_that_works(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "a b%20ü?#") as server, client(server.url) as connection:
        assert connection.ping()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A damaged append-only file: the message quotes the log and names it."""
    with EmbeddedRedis(tmp_path) as server, client(server.url) as connection:
        connection.set("a", "1")
    [manifest] = (tmp_path / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(EmbeddedRedisError, match=r"stopped at start: .*redis\.log"):
        EmbeddedRedis(tmp_path).start()
    manifest.unlink()


def test_commands_use_the_running_server_or_start_one(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        with embedded_url(tmp_path) as url:
            assert url == server.url
        assert server.running
    with embedded_url(tmp_path) as url, client(url) as connection:
        pid = int((tmp_path / "redis.pid").read_text())
        assert connection.ping()
    until_gone(pid)
