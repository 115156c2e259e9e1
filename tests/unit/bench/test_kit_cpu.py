"""CPU time and memory by process and thread."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.feature_store.embedded import EmbeddedRedis
from bench.kit.cpu import cpu, descendants, is_alive, lives, memory, usage
from tests.service_process import until

# The kernel counts in hundredths of a second and drops what is left. The time of the other threads in between is made
# of four such counts (of the process and of its main thread, before and after), each of a user and a system time.
TICK_S = 0.02
DROPPED_S = 2 * TICK_S
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def burn(seconds: float) -> None:
    """Of this thread's own CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_the_main_threads_time_is_told_from_the_others() -> None:
    pid = os.getpid()
    before = cpu([pid])
    burn(0.3)
    thread = threading.Thread(target=burn, args=(0.2,))
    thread.start()
    thread.join()
    found = cpu([pid]).since(before)
    assert found.main_s == pytest.approx(0.3, abs=0.1)
    assert 0.2 - DROPPED_S <= found.others_s <= 0.3
    assert found.service_s == found.main_s + found.others_s
    assert found.redis_s == 0


def test_a_thread_that_has_ended_still_counts() -> None:
    before = cpu([os.getpid()])
    thread = threading.Thread(target=burn, args=(0.2,))
    thread.start()
    thread.join()
    # Python's thread has ended; the kernel's is gone a moment later
    until(lambda: thread.native_id not in usage([os.getpid()])[0].threads, "the thread is gone")
    assert cpu([os.getpid()]).since(before).others_s >= 0.2 - DROPPED_S


def test_an_embedded_redis_is_counted_apart(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        [server] = usage([redis.pid])
        assert (server.is_redis, server.pid) == (True, redis.pid)
        found = cpu([redis.pid])
    assert (found.main_s, found.others_s) == (0, 0)
    assert found.redis_s == pytest.approx(server.cpu_s, abs=5 * TICK_S)


def test_descendants_are_found_also_in_sessions_of_their_own() -> None:
    code = "import subprocess, sys; subprocess.run(sys.argv[1:], start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", code, *SLEEP]) as parent:
        try:
            while len(found := descendants([parent.pid])) < 2:
                time.sleep(0.01)
            child = max(found)
            assert found == sorted([parent.pid, child])
            assert "time.sleep(60)" in usage([child])[0].command
        finally:
            for pid in (child, parent.pid):
                os.kill(pid, 9)


def test_a_process_that_has_ended_is_in_no_list() -> None:
    with subprocess.Popen(SLEEP) as process:
        [life] = lives([process.pid])
        assert is_alive(life)
        assert not is_alive(life._replace(started=life.started - 1))  # another process had the pid before
        process.kill()
    assert not is_alive(life)
    assert usage([process.pid]) == memory([process.pid]) == []
    assert descendants([process.pid]) == []


def test_private_memory_is_what_nobody_else_maps(tmp_path: Path) -> None:
    """A file that two processes map is resident in both and private to none; own bytes are private."""
    size = 30_000_000
    file = tmp_path / "shared"
    file.write_bytes(b"\1" * size)
    read = (
        "import mmap, sys, time; file = open(sys.argv[1], 'rb'); m = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); "
        "sum(m[::4096])"
    )
    own = f"; b = bytearray({size}); b[::4096] = b'x' * len(b[::4096])"
    wait = "; print(flush=True); time.sleep(60)"
    commands = [[sys.executable, "-c", code, str(file)] for code in (read + wait, read + own + wait)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        less, more = memory(process.pid for process in processes)
        assert less.rss > size
        assert less.private < size / 2 + 10_000_000
        assert more.private - less.private == pytest.approx(size, rel=0.1)
        assert more.rss - less.rss == pytest.approx(size, rel=0.1)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
