"""`shortlist export` moves the pointer under the lock that a running service's activations hold."""

import fcntl
from pathlib import Path

import pytest

from cli.export import activate_bundle
from models.contract.manifest import BundleError
from models.contract.versions import read_active

VERSION = "20261121T204107Z-3f9a12"


def test_the_pointer_is_not_moved_under_an_activation(tmp_path: Path) -> None:
    bundle = tmp_path / "bundles" / VERSION
    bundle.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "activation.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match=f"{VERSION}: is exported but not active: another activation"):
            activate_bundle(bundle)
    assert read_active(bundle.parent) is None
    activate_bundle(bundle)
    assert read_active(bundle.parent) == VERSION
