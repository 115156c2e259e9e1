"""The pointer to the active bundle, and the way back to the ones before."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from models.contract.manifest import BundleError
from models.contract.versions import (
    bundle_path,
    bundle_version,
    known_active,
    list_bundles,
    previous_active,
    read_active,
    roll_back,
    write_active,
)

A, B, C = (f"2026112{day}T000000Z-00000{day}" for day in (1, 2, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in (A, B, C):
        (tmp_path / version).mkdir()
    return tmp_path


def test_a_version_is_utc_time_and_the_start_of_the_content_hash() -> None:
    now = datetime(2026, 11, 21, 22, 41, 7, tzinfo=timezone(timedelta(hours=2)))
    assert bundle_version(now, "3f9a12" + "0" * 58) == "20261121T204107Z-3f9a12"
    assert bundle_version(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "ab" * 32) == "20260102T030405Z-ababab"


@pytest.mark.parametrize(
    "version",
    ["", ".", "..", "../20261121T204107Z-3f9a12", "20261121T204107Z-3f9a12/..", "20261121T204107Z-3F9A12",
     "20261121T204107Z-3f9a12\n", "20261121T204107Z-3f9a1", "/etc", "ACTIVE", "２0261121T204107Z-3f9a12"],
)  # fmt: skip
def test_what_is_not_a_version_cannot_leave_the_folder(folder: Path, version: str) -> None:
    with pytest.raises(BundleError, match="is not a bundle version"):
        bundle_path(folder, version)
    with pytest.raises(BundleError, match="is not a bundle version"):
        write_active(folder, version)
    assert read_active(folder) is None


def test_only_folders_with_a_version_for_a_name_are_bundles(folder: Path) -> None:
    (folder / ".export-abc").mkdir()
    (folder / "20261124T000000Z-000004").write_text("a file")
    (folder / "20261125T000000Z-000005").symlink_to(A)
    assert list_bundles(folder) == [A, B, C]
    assert list_bundles(folder / "nowhere") == []


def test_before_the_first_activation_nothing_is_active(folder: Path) -> None:
    assert read_active(folder) is None
    assert previous_active(folder) is None
    with pytest.raises(BundleError, match="HISTORY: names no earlier bundle"):
        roll_back(folder)


def test_each_rollback_goes_one_further_back(folder: Path) -> None:
    for version in (A, B, C):
        write_active(folder, version)
    assert (read_active(folder), previous_active(folder)) == (C, B)
    assert roll_back(folder) == B
    assert (read_active(folder), previous_active(folder)) == (B, A)
    assert roll_back(folder) == A
    with pytest.raises(BundleError):
        roll_back(folder)
    assert read_active(folder) == A


def test_activating_the_active_version_changes_nothing(folder: Path) -> None:
    for version in (A, B, B):
        write_active(folder, version)
    assert roll_back(folder) == A


def test_a_version_that_is_not_there_is_not_activated(folder: Path) -> None:
    write_active(folder, A)
    with pytest.raises(BundleError, match="is not in"):
        write_active(folder, "20261129T000000Z-000009")
    assert read_active(folder) == A


def test_a_rollback_passes_over_a_bundle_that_was_deleted(folder: Path) -> None:
    for version in (A, B, C):
        write_active(folder, version)
    (folder / B).rmdir()
    assert roll_back(folder) == A
    assert previous_active(folder) is None


@pytest.mark.parametrize("text", ["../x\n", f"{A}\n{B}\n", "\xff"])
def test_a_damaged_pointer_is_named_and_can_be_replaced(folder: Path, text: str) -> None:
    (folder / "ACTIVE").write_text(text, "latin-1")
    with pytest.raises(BundleError, match="ACTIVE: does not hold one bundle version"):
        read_active(folder)
    write_active(folder, B)
    assert read_active(folder) == B


def test_a_rollback_from_a_damaged_pointer_goes_to_the_last_version_that_was_left(folder: Path) -> None:
    for version in (A, B, C):
        write_active(folder, version)
    (folder / "ACTIVE").write_text("../x\n")
    assert known_active(folder) is None
    assert previous_active(folder) == B
    assert roll_back(folder) == B
    assert (read_active(folder), previous_active(folder)) == (B, A)


def test_a_pointer_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "ACTIVE").mkdir()
    with pytest.raises(BundleError, match="ACTIVE: cannot be read: Is a directory"):
        read_active(folder)


def test_a_stop_between_the_two_files_loses_nothing(folder: Path) -> None:
    """Activation writes HISTORY first, rollback ACTIVE first: both leave the active version as HISTORY's last line."""
    (folder / "ACTIVE").write_text(f"{B}\n")
    (folder / "HISTORY").write_text(f"{A}\n{B}\n")
    assert previous_active(folder) == A
    write_active(folder, C)
    assert (folder / "HISTORY").read_text().split() == [A, B]
    assert roll_back(folder) == B


def test_no_temporary_file_stays(folder: Path) -> None:
    for version in (A, B):
        write_active(folder, version)
    assert sorted(path.name for path in folder.iterdir()) == [A, B, C, "ACTIVE", "HISTORY"]
