"""Bundles while the service runs, in one worker; the swap across several is in tests/faults."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from app.service import Service
from app.workers import WorkerStatus, live_workers, write_status
from models.contract.versions import previous_active, read_active, write_active
from tests.service_process import eventually
from tests.unit.app.conftest import running
from tests.unit.app.test_api import Started, problem

Made = tuple[Path, list[str]]


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


async def test_activate_and_roll_back_name_the_bundle_that_answers(service: Started, made_bundles: Made) -> None:
    found, client = service
    first, second, third = made_bundles[1]
    answer = await client.post(f"/bundles/{second}/activate")
    assert answer.json() == {"active": second, "previous": first, "workers": 1}
    assert (await client.post("/recommend", json={"history": ["i1"]})).json()["bundle"] == second
    await client.post(f"/bundles/{third}/activate")
    listed = (await client.get("/bundles")).json()
    assert (listed["active"], listed["serving"]) == (third, third)
    assert [(b["version"], b["active"], b["rollback"]) for b in listed["bundles"]] == [
        (version, version == third, version == second) for version in sorted(made_bundles[1])
    ]
    assert [(await client.post("/bundles/rollback")).json()["active"] for _ in range(2)] == [second, first]
    assert (await client.post("/bundles/rollback")).status_code == 404
    assert found.lifecycle.current().version == read_active(found.settings.bundles_dir) == first


@pytest.mark.parametrize("name", ["retrieval/index.faiss", "ranking/head.onnx", "manifest.json", "items/hashes.npy"])
async def test_a_damaged_bundle_is_refused_with_the_files_name_and_the_running_one_stays(
    service: Started, made_bundles: Made, name: str
) -> None:
    found, client = service
    first, second, _ = made_bundles[1]
    flip_a_byte(found.settings.bundles_dir / second / name)
    answer = await client.post(f"/bundles/{second}/activate")
    assert problem(answer) == (409, "bundle_refused", [name])
    assert name in answer.json()["error"]["message"]
    assert read_active(found.settings.bundles_dir) == first
    assert (await client.post("/recommend", json={"history": ["i1"]})).json()["bundle"] == first


async def test_a_pointer_moved_by_someone_else_is_followed(service: Started, made_bundles: Made) -> None:
    found, client = service
    write_active(found.settings.bundles_dir, made_bundles[1][1])
    async with found.lifecycle._loading:
        await found.lifecycle._follow()
    assert (await client.post("/recommend", json={})).json()["bundle"] == made_bundles[1][1]


async def test_a_pointer_to_a_damaged_bundle_is_reported_and_not_followed(service: Started, made_bundles: Made) -> None:
    found, client = service
    first, second, _ = made_bundles[1]
    flip_a_byte(found.settings.bundles_dir / second / "neighbours.npy")
    write_active(found.settings.bundles_dir, second)
    async with found.lifecycle._loading:
        await found.lifecycle._follow()
    assert (await client.post("/recommend", json={})).json()["bundle"] == first
    [status] = live_workers(found.settings.run_dir)
    assert status.serving == first
    assert status.error is not None
    assert status.error.startswith("neighbours.npy")


async def test_a_damaged_pointer_is_replaced_by_activating_and_by_rolling_back(
    service: Started, made_bundles: Made
) -> None:
    found, client = service
    folder, (first, second, third) = found.settings.bundles_dir, made_bundles[1]
    await client.post(f"/bundles/{second}/activate")
    (folder / "ACTIVE").write_text("garbage\n")
    listed = (await client.get("/bundles")).json()
    assert (listed["active"], listed["serving"]) == (None, second)
    assert (await client.post(f"/bundles/{third}/activate")).json()["active"] == third == read_active(folder)
    (folder / "ACTIVE").write_text("garbage\n")
    assert (await client.post("/bundles/rollback")).json()["active"] == first == read_active(folder)


async def test_a_pointer_that_cannot_be_written_is_told_and_the_running_bundle_stays(
    service: Started, made_bundles: Made
) -> None:
    """As on a volume that is mounted read-only; here a folder stands in the way, which stops root too."""
    found, client = service
    first, second, _ = made_bundles[1]
    (found.settings.bundles_dir / "ACTIVE").unlink()
    (found.settings.bundles_dir / "ACTIVE").mkdir()
    assert (await client.get("/bundles")).json()["active"] is None
    answer = await client.post(f"/bundles/{second}/activate")
    assert problem(answer) == (503, "activation_failed", [])
    assert answer.json()["error"]["message"] == f"ACTIVE cannot be written: Is a directory; {first} stays active"
    assert (await client.post("/recommend", json={})).json()["bundle"] == first


def another_worker(service: Service, version: str, pointer: str, error: str | None = None) -> None:
    """The status of a second live worker, under the process id of the one that runs the tests' parent."""
    write_status(service.settings.run_dir, WorkerStatus(1, os.getppid(), pointer, version, error))


async def test_when_a_worker_does_not_confirm_the_pointer_goes_back(service: Started, made_bundles: Made) -> None:
    found, _ = service
    first, second, third = made_bundles[1]
    settings = found.settings.model_copy(update={"activation_timeout_s": 0.2})
    async with running(settings) as (impatient, client):
        await client.post(f"/bundles/{third}/activate")
        another_worker(impatient, third, "some earlier pointer")
        answer = await client.post(f"/bundles/{second}/activate")
        assert problem(answer)[:2] == (503, "activation_failed")
        assert third in answer.json()["error"]["message"]
        assert impatient.lifecycle.current().version == read_active(settings.bundles_dir) == third
        assert previous_active(settings.bundles_dir) == first
        answer = await client.post("/bundles/rollback")
        assert answer.status_code == 503
        assert impatient.lifecycle.current().version == read_active(settings.bundles_dir) == third
        assert previous_active(settings.bundles_dir) == first


async def test_workers_that_are_gone_are_not_waited_for(service: Started, made_bundles: Made) -> None:
    found, client = service
    write_status(found.settings.run_dir, WorkerStatus(1, 2**22 + 1, "", made_bundles[1][0]))  # above any process id
    answer = await client.post(f"/bundles/{made_bundles[1][1]}/activate")
    assert answer.json()["workers"] == 1


async def test_one_activation_at_a_time(service: Started, made_bundles: Made) -> None:
    found, client = service
    with (found.settings.run_dir / "activation.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        answer = await client.post(f"/bundles/{made_bundles[1][1]}/activate")
    assert problem(answer)[:2] == (409, "activation_in_progress")
    assert (await client.post(f"/bundles/{made_bundles[1][1]}/activate")).status_code == 200


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_worker_whose_status_cannot_be_written_follows_and_writes_it_later(
    service: Started, made_bundles: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = service
    folder, run_dir, (_, second, third) = found.settings.bundles_dir, found.settings.run_dir, made_bundles[1]
    with monkeypatch.context() as patch:
        patch.setattr("app.lifecycle.write_status", full_disk)
        for version in (second, third):
            write_active(folder, version)

            async def served(version: str = version) -> bool:
                return found.lifecycle.current().version == version

            await eventually(served, f"{version} was served")

    async def written() -> bool:
        return [status.serving for status in live_workers(run_dir)] == [third]

    await eventually(written, "the status was written after all")


async def test_when_the_status_cannot_be_written_the_pointer_goes_back(
    service: Started, made_bundles: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = service
    first, second, _ = made_bundles[1]
    settings = found.settings.model_copy(update={"activation_timeout_s": 0.2})
    async with running(settings) as (impatient, client):
        monkeypatch.setattr("app.lifecycle.write_status", full_disk)
        assert problem(await client.post(f"/bundles/{second}/activate"))[:2] == (503, "activation_failed")
        assert impatient.lifecycle.current().version == read_active(settings.bundles_dir) == first


def test_a_status_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "worker-0.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_status(tmp_path, WorkerStatus(0, 1, "", "v"))
    assert [path.name for path in tmp_path.iterdir()] == ["worker-0.json"]
