"""Checking a bundle: every file is hashed before any parser sees a byte of it."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from models.contract.manifest import MANIFEST, MANIFEST_HASH, BundleError, FileInfo, Manifest

HASHING_THREADS = 2

_GET_IT_AGAIN = "copy the bundle again or export a new one"


def verify_bundle(path: Path) -> Manifest:
    """The manifest of the bundle in this folder, once every byte of it is what the manifest says.

    Raises BundleError with the name of a file that is missing, unknown, not a plain file, or changed.
    """
    manifest = _read_manifest(path)
    if path.name != manifest.version:
        raise BundleError(MANIFEST, f"is of bundle {manifest.version}, but the folder is called {path.name}")
    found = _plain_files(path)
    for name in (MANIFEST, MANIFEST_HASH):
        found.pop(name, None)
    for name in sorted(manifest.files.keys() - found.keys()):
        raise BundleError(name, f"is missing; {_GET_IT_AGAIN}")
    for name in sorted(found.keys() - manifest.files.keys()):
        raise BundleError(name, "is not named in the manifest; remove it")
    for name, size in sorted(found.items()):
        if size != manifest.files[name].size:
            raise BundleError(name, f"has {size} bytes instead of {manifest.files[name].size}; {_GET_IT_AGAIN}")
    _check_hashes(path, manifest.files)
    return manifest


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> Manifest:
    if path.is_symlink() or not path.is_dir():
        raise BundleError(path.name, "is not a folder with a bundle")
    raw, stated = (_read_small(path, name) for name in (MANIFEST, MANIFEST_HASH))
    if stated != hash_line(raw):
        raise BundleError(MANIFEST, f"does not match {MANIFEST_HASH}: one of the two was changed; {_GET_IT_AGAIN}")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the document"
        reason = f"{where}: {error.errors()[0]['msg']}; the bundle was made by another version of Shortlist"
        raise BundleError(MANIFEST, reason) from error


def hash_line(manifest: bytes) -> bytes:
    """Content of manifest.sha256, in the form that `sha256sum --check` reads."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _read_small(path: Path, name: str) -> bytes:
    try:
        descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BundleError(name, f"is missing or cannot be read; {_GET_IT_AGAIN}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BundleError(name, "is not a plain file; remove it")
        return file.read()


def _plain_files(path: Path) -> dict[str, int]:
    """Sizes of all files under a folder, by relative path; an empty folder is listed too, with a slash at its end.

    Refuses links, pipes and devices.
    """
    sizes: dict[str, int] = {}
    folders = [path]
    for folder in folders:
        with os.scandir(folder) as entries:
            listed = list(entries)
        if not listed:
            sizes[f"{folder.relative_to(path).as_posix()}/"] = 0
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                sizes[Path(entry.path).relative_to(path).as_posix()] = entry.stat(follow_symlinks=False).st_size
            else:
                raise BundleError(Path(entry.path).relative_to(path).as_posix(), "is not a plain file; remove it")
    return sizes


def _check_hashes(path: Path, files: dict[str, FileInfo]) -> None:
    names = sorted(files, key=lambda name: (-files[name].size, name))  # no large file is left for the end
    with ThreadPoolExecutor(HASHING_THREADS, "bundle-hash") as pool:  # hashlib releases the interpreter's lock
        for name, digest in zip(names, pool.map(lambda name: sha256_file(path / name), names), strict=True):
            if digest != files[name].sha256:
                raise BundleError(name, f"was changed (its sha256 is not the manifest's); {_GET_IT_AGAIN}")
