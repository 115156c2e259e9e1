"""The service from the outside: started as an operator starts it, called over TCP."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.workers import live_workers
from tests.service_process import PATIENCE_S, environment, eventually, make_bundles, serving, start_process, until


async def test_an_event_moves_the_list_whichever_worker_is_asked(tmp_path: Path) -> None:
    """And what was stored is still there after a stop and a start."""
    [version] = make_bundles(tmp_path)
    body = {"user_id": "u1", "k": 5, "fields": ["category"], "deadline_ms": 10_000}
    with serving(tmp_path, workers=2) as service:
        async with service.client() as client:
            before = (await client.post("/recommend", json=body)).json()
            assert (before["served_by"], before["bundle"], before["degraded"]) == ("popular", version, [])
            event = {"user_id": "u1", "item_id": "i1", "event_type": "purchase"}
            stored = (await client.post("/events", json={"events": [event]})).json()
            assert (stored["accepted"], stored["durability"]) == (1, "always")
        lists = []
        for _ in range(8):  # each on a connection of its own, which either worker may accept
            async with service.client() as client:
                lists.append((await client.post("/recommend", json=body)).json()["items"])
        assert [item["fields"]["category"] for item in lists[0]] == ["dairy"] * 5
        assert all([i["item_id"] for i in found] == [i["item_id"] for i in lists[0]] for found in lists)
    assert service.process.returncode == 0
    with serving(tmp_path, workers=1) as service:
        async with service.client() as client:
            assert (await client.post("/recommend", json=body)).json()["served_by"] == "ranking"
            text = (await client.get("/metrics")).text
            assert f'shortlist_bundle_info{{version="{version}",worker="0"}} 1.0' in text


def policies(pid: int) -> set[int]:
    """Of all threads of a process."""
    return {os.sched_getscheduler(int(path.name)) for path in Path(f"/proc/{pid}/task").iterdir()}


async def test_a_worker_that_dies_is_replaced_and_the_other_goes_on(tmp_path: Path) -> None:
    make_bundles(tmp_path)
    with serving(tmp_path, workers=2) as service:
        first = live_workers(tmp_path / "run")
        assert [status.worker for status in first] == [0, 1]
        assert policies(first[0].pid) == {os.SCHED_BATCH}, "loop and compute take turns"
        os.kill(first[0].pid, signal.SIGKILL)
        until(lambda: first[0] not in live_workers(tmp_path / "run"), "the supervisor noticed")
        for _ in range(8):  # whatever the kernel's choice, none of them waits for the dead worker's successor
            async with service.client() as client:
                assert (await client.post("/recommend", json={})).status_code == 200
        until(
            lambda: [s.worker for s in live_workers(tmp_path / "run") if s.pid != first[0].pid] == [0, 1],
            "the worker was replaced",
        )

        async def answers() -> bool:
            async with service.client() as client:
                return (await client.post("/recommend", json={})).status_code == 200

        for _ in range(8):
            await eventually(answers, "both sockets answer")


async def test_a_large_body_is_answered_while_it_is_still_being_sent(tmp_path: Path) -> None:
    """413 by the announced length, and on the same connection the next request is served."""
    make_bundles(tmp_path)
    with serving(tmp_path) as service:
        async with service.client() as client:
            refused = await client.post("/recommend", content=b" " * 10_000_000)
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
            assert (await client.post("/recommend", json={})).status_code == 200


def test_a_caller_that_closes_its_side_after_its_request_has_its_answer(tmp_path: Path) -> None:
    """As `nc -N` does, whether or not the answer is there by then."""
    make_bundles(tmp_path)
    with serving(tmp_path) as service:
        address = httpx.URL(service.url)
        for request, status in (
            (b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", b"200"),
            (b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{]", b"400"),
            (b'POST /recommend HTTP/1.1\r\ncontent-length: 35\r\n\r\n{"user_id": "u", "history": ["i1"]}', b"200"),
        ):
            for _ in range(5):
                with socket.create_connection((address.host, address.port), PATIENCE_S) as caller:
                    caller.sendall(request)
                    caller.shutdown(socket.SHUT_WR)
                    with caller.makefile("rb") as answer:
                        assert answer.read().startswith(b"HTTP/1.1 " + status)


def test_who_never_ends_a_head_is_told_so(tmp_path: Path) -> None:
    """The worker looks once a second."""
    make_bundles(tmp_path)
    with serving(tmp_path) as service:
        address = httpx.URL(service.url)
        with socket.create_connection((address.host, address.port), PATIENCE_S) as caller:
            caller.sendall(b"POST /recommend HT")
            with caller.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 408 ")


def test_when_the_drain_is_over_connections_are_refused_at_once(tmp_path: Path) -> None:
    """Also while a worker waits for the rest of a request, which it then answers."""
    make_bundles(tmp_path)
    with serving(tmp_path, workers=2, drain_s=0.5) as service:
        url = httpx.URL(service.url)
        address = (url.host, url.port)

        def refused() -> bool:
            try:
                socket.create_connection(address, PATIENCE_S).close()
            except ConnectionRefusedError:
                return True
            return False

        with socket.create_connection(address, PATIENCE_S) as slow:
            slow.sendall(b"POST /recommend HTTP/1.1\r\ncontent-length: 2\r\n\r\n{")
            service.process.terminate()
            until(refused, "connections were refused")
            slow.sendall(b"}")
            with slow.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 200 ")
        assert service.process.wait(PATIENCE_S) == 0


async def test_when_the_supervisor_is_killed_the_workers_end_by_themselves(tmp_path: Path) -> None:
    make_bundles(tmp_path)
    with serving(tmp_path, workers=2, drain_s=0.1) as service:
        service.process.kill()
        service.process.wait(PATIENCE_S)
        until(lambda: not live_workers(tmp_path / "run"), "the workers ended")
        with pytest.raises(httpx.HTTPError):
            async with service.client() as client:
                await client.get("/livez")
        os.kill(int((tmp_path / "redis" / "redis.pid").read_text()), signal.SIGTERM)


def refusal(data_dir: Path, **settings: object) -> tuple[int, str]:
    with start_process(data_dir, **settings) as process:
        try:
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.terminate()
    return process.returncode, errors


def test_starting_without_an_active_bundle_says_what_to_do(tmp_path: Path) -> None:
    code, errors = refusal(tmp_path)
    assert (code, errors) == (2, f"there is no active bundle in {tmp_path}/bundles: run `shortlist export` first\n")


def test_starting_on_a_busy_port_says_so(tmp_path: Path) -> None:
    """Even when the other service shares its port with SO_REUSEPORT, as ours does."""
    make_bundles(tmp_path)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, errors = refusal(tmp_path, port=port)
    assert (code, errors) == (
        2,
        f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --host or --port\n",
    )


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("host", "0.0.0.0", "would be open to everyone"),
        ("port", "http", "setting port: "),
        ("api_keys", "secret", "setting api_keys: "),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, setting: str, value: str, said: str) -> None:
    make_bundles(tmp_path)
    code, errors = refusal(tmp_path, **{setting: value})
    assert code == 2
    assert said in errors
    assert "secret" not in errors
    assert "Traceback" not in errors


def test_a_damaged_active_bundle_is_refused_with_the_files_name(tmp_path: Path) -> None:
    [version] = make_bundles(tmp_path)
    damaged = tmp_path / "bundles" / version / "item_tables" / "affinity.npy"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, errors = refusal(tmp_path)
    assert code == 2
    assert "item_tables/affinity.npy: was changed" in errors
    assert "Traceback" not in errors


def test_importing_the_service_loads_no_torch_and_opens_nothing() -> None:
    check = "import app.main, sys, threading; assert 'torch' not in sys.modules; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", check],
        env=environment(Path("nowhere")),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "1\n"


def test_two_services_do_not_share_a_data_folder(tmp_path: Path, redis_url: str) -> None:
    make_bundles(tmp_path)
    with serving(tmp_path, redis_url=redis_url):
        code, errors = refusal(tmp_path, redis_url=redis_url)
    assert (code, errors) == (
        2,
        f"another service runs on {tmp_path}: stop it, or choose another folder with --data-dir\n",
    )
