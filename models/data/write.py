"""Writing a prepared dataset whole or not at all, and telling whether one is still up to date."""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.schema import Schema
from models.data.catalogue import Items, Users
from models.data.config import SOURCES, Config
from models.data.dataset import FORMAT_VERSION, Splits
from models.data.errors import DataError
from models.data.impressions import COLUMNS as IMPRESSION_COLUMNS
from models.data.impressions import Impressions
from models.data.interactions import COLUMNS
from models.data.log import OrderedLog
from models.data.report import Report
from models.data.sources import source_files

# Raise it when the same input and configuration give another dataset than before.
PREPARE_VERSION = 2


def write_dataset(
    folder: Path,
    schema: Schema,
    splits: Splits,
    rows: OrderedLog,
    items: Items,
    users: Users,
    impressions: Impressions | None,
    report: Report,
) -> str:
    """Write all files; dataset.json comes last. Returns the fingerprint: SHA-256 of everything but the report.

    It is taken over the arrays, which are in a total order, so the order of the input's lines does not change it.
    """
    _write_interactions(folder / "interactions", rows)
    _write_items(folder / "items", items)
    _write_users(folder / "users", users)
    head = {
        "format_version": FORMAT_VERSION,
        "splits": asdict(splits),
        "context": list(rows.interactions.context),
        "numeric": list(rows.interactions.numeric),
        "schema": schema.model_dump(mode="json"),
    }
    if impressions is not None:  # without them the file is as it was before there were any: fingerprints stay
        head["impressions"] = {"click_window_ms": impressions.click_window_ms}
        _save_all(
            folder / "impressions", {name: getattr(impressions, name) for name in (*IMPRESSION_COLUMNS, "came_from")}
        )
    digest = hashlib.sha256(orjson.dumps(head))
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + _sha256(file))
    head |= {"fingerprint": digest.hexdigest(), "report": report.model_dump(mode="json")}
    (folder / "dataset.json").write_bytes(orjson.dumps(head, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return digest.hexdigest()


def input_key(config: Config, archived: Sequence[Path] = ()) -> str:
    """SHA-256 of the configuration (only what preparing reads) and of the content of every source and archive file."""
    settings = config.model_dump(mode="json", exclude={"train", "compress", "tune"})
    digest = hashlib.sha256(f"{FORMAT_VERSION} {PREPARE_VERSION}".encode())
    for section in (getattr(config, name) for name in SOURCES):
        digest.update(b"section")
        for file in source_files(section.path) if section and section.path else []:
            digest.update(_sha256(file))
    digest.update(b"archive")
    for file in archived:
        digest.update(_sha256(file))
    for name in SOURCES:
        if settings[name]:
            del settings[name]["path"]
    digest.update(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def stored_key(folder: Path) -> str | None:
    """The input key of the dataset in `folder`, None if there is none."""
    try:
        return (folder / "input.sha256").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def store_key(folder: Path, key: str) -> None:
    (folder / "input.sha256").write_text(key + "\n", "ascii")


def replace_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`: after a crash `target` is the old one, the new one, or absent."""
    old = target.with_name(f".{target.name}.old")
    _remove(old)
    if target.exists():
        target.rename(old)
    new.rename(target)
    _remove(old)


@contextmanager
def exclusive(lock: Path, other: str) -> Iterator[None]:
    """Hold a lock file. Raises DataError if another process holds it; the system frees it when that process ends.

    other: what that is, for the message.
    """
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{lock.parent}: {other} is running there; wait for it") from error
        yield


def _write_interactions(folder: Path, rows: OrderedLog) -> None:
    interactions = rows.interactions
    arrays: dict[str, NDArray[Any]] = {name: getattr(interactions, name) for name in COLUMNS} | {"part": rows.part}
    arrays |= {f"context/{name}": codes for name, codes in interactions.context.items()}
    arrays |= {f"numeric/{name}": values for name, values in interactions.numeric.items()}
    _save_all(folder, arrays)


def _write_items(folder: Path, items: Items) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "hashes": items.hashes,
        "categorical": items.encoded.categorical,
        "numeric": items.encoded.numeric,
        "edges": items.edges.pairs,
    }
    arrays |= {f"filters/{name}": codes for name, (codes, _) in items.filters.items()}
    arrays |= {f"multi/{name}": codes for name, codes in items.encoded.multi.items()}
    arrays |= {f"vectors/{name}": vectors for name, vectors in items.encoded.vectors.items()}
    _save_all(folder, arrays)
    _encode_ids(items.ids).save(folder, "ids")
    for kind, columns in (("fields", items.fields), ("text", items.encoded.text)):
        for name, column in columns.items():
            (folder / kind).mkdir(exist_ok=True)  # a bundle holds no empty folder
            column.save(folder / kind, name)
    for name, (_, values) in items.filters.items():
        (folder / "filters" / f"{name}.json").write_bytes(orjson.dumps(values))


def _write_users(folder: Path, users: Users) -> None:
    encoded = users.encoded
    _save_all(folder, {"categorical": encoded.categorical, "numeric": encoded.numeric, "social": users.social.pairs})
    _encode_ids(users.ids).save(folder, "ids")


def _encode_ids(ids: list[str]) -> BytesColumn:
    return BytesColumn.of(name.encode() for name in ids)


def _save_all(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)


def _sha256(file: Path) -> bytes:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
