"""Putting a bundle on disk: whole or absent. Everything is written beside the bundles, then renamed into place."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.card import CompressionCard, model_card
from export.graph_files import write_graph
from export.item_files import write_item_table
from export.sizes import bundle_size
from models.contract import bundle as layout
from models.contract.bundle import open_bundle
from models.contract.manifest import (
    MANIFEST,
    MANIFEST_HASH,
    BundleError,
    FileInfo,
    Gate,
    GraphInfo,
    IndexInfo,
    Manifest,
    Profile,
    RankingInfo,
    RetrievalInfo,
    TableInfo,
)
from models.contract.schema import Schema
from models.contract.tables import RowTable, smallest_int
from models.contract.verify import hash_line, sha256_file
from models.contract.versions import bundle_version, sync_folder


@dataclass(frozen=True, slots=True)
class RankingContent:
    """item_part: [N, h], of the type that the head takes.  user, head: ONNX."""

    info: RankingInfo
    item_part: NDArray[Any]
    user: bytes
    head: bytes


@dataclass(frozen=True, slots=True)
class BundleContent:
    """All that goes into a bundle, for N items in the order of their indices.

    items_folder: of a prepared dataset; what serving reads of it is written in the smallest types that hold it.
    item_vectors: N rows of d numbers.  neighbours: signed integers [N, m].  ranking: None to serve the retrieval order.
    neighbours_similarity: float32 or float16 [N, m], or the bytes of fp8.  neighbours_count: uint8 [N], of each item's
    neighbours where both are without padding, [sum of counts].  popular: int64 [p].  item_tables: arrays for the cross
    features, by name.  user_tower: ONNX.  faiss_index: from faiss.serialize_index; None where the index is made of the
    vectors.
    graphs, tables: by path in the bundle, what was shipped and why.
    """

    code_version: str
    data_fingerprint: str
    as_of_ms: int
    schema: Schema
    retrieval: RetrievalInfo
    ranking: RankingContent | None
    index: IndexInfo
    graphs: dict[str, GraphInfo]
    gates: list[Gate]
    items_folder: Path
    item_vectors: RowTable
    neighbours: NDArray[Any]
    neighbours_similarity: NDArray[Any]
    popular: NDArray[np.int64]
    user_tower: bytes
    faiss_index: bytes | None
    neighbours_count: NDArray[np.uint8] | None = None
    item_tables: dict[str, NDArray[Any]] = field(default_factory=dict)
    profile: Profile = "default"
    tables: dict[str, TableInfo] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    clock_shift_ms: int = 0
    training_key: str = ""
    notes: str = ""  # markdown for the model card
    compression: CompressionCard | None = None


def write_bundle(
    bundles_dir: Path,
    content: BundleContent,
    now: datetime | None = None,
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Write, verify and publish a bundle; returns its folder.

    check: called with the complete bundle before it is published, for gates that need the whole request flow; what it
    raises stops the publication. After any exception nothing is left. Raises BundleError when what was written does
    not open as a bundle.
    """
    bundles_dir.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=".export-", dir=bundles_dir))
    try:
        folder = workshop / "bundle"
        _write_files(folder, content)
        version = _write_manifest(folder, content, now or datetime.now(UTC))
        staged = folder.rename(workshop / version)
        open_bundle(staged)
        if check is not None:
            check(staged)
        return _publish(staged, bundles_dir / version)
    finally:
        shutil.rmtree(workshop)


def _write_files(folder: Path, content: BundleContent) -> None:
    write_item_table(content.items_folder, folder / layout.ITEMS, content.schema)
    arrays: dict[str, NDArray[Any]] = {
        layout.ITEM_VECTORS: content.item_vectors.stored,
        layout.NEIGHBOURS: content.neighbours,
        layout.NEIGHBOURS_SIMILARITY: content.neighbours_similarity,
        layout.POPULAR: content.popular.astype(smallest_int(len(content.item_vectors) - 1, signed=True)),
        **{f"{layout.ITEM_TABLES}/{name}.npy": table for name, table in content.item_tables.items()},
    }
    blobs: dict[str, bytes] = {}
    graphs = {layout.USER_TOWER: content.user_tower}
    if content.faiss_index is not None:
        blobs[layout.INDEX] = content.faiss_index
    if content.neighbours_count is not None:
        arrays[layout.NEIGHBOURS_COUNT] = content.neighbours_count
    if content.compression is not None:
        blobs[layout.COMPRESSION_PICTURE] = content.compression.picture
    if content.item_vectors.scales is not None:
        arrays[layout.ITEM_VECTOR_SCALES] = content.item_vectors.scales
    if content.ranking is not None:
        arrays[layout.ITEM_PART] = content.ranking.item_part
        graphs |= {layout.RANKING_USER: content.ranking.user, layout.RANKING_HEAD: content.ranking.head}
    for name in arrays.keys() | blobs.keys() | graphs.keys():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / name, np.ascontiguousarray(array), allow_pickle=False)
    for name, blob in blobs.items():
        (folder / name).write_bytes(blob)
    for name, graph in graphs.items():
        write_graph(folder / name, graph)
    (folder / layout.MODEL_CARD).write_text(model_card(content, bundle_size(folder)), "utf-8")


def _write_manifest(folder: Path, content: BundleContent, now: datetime) -> str:
    """Write the manifest last, once all else is on the disk; returns the version it got."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        _sync_file(path)
    draft = Manifest(
        version="",
        created=now.astimezone(UTC).isoformat(timespec="seconds"),
        code_version=content.code_version,
        data_fingerprint=content.data_fingerprint,
        as_of_ms=content.as_of_ms,
        clock_shift_ms=content.clock_shift_ms,
        profile=content.profile,
        training_key=content.training_key,
        schema=content.schema,
        retrieval=content.retrieval,
        ranking=content.ranking.info if content.ranking else None,
        index=content.index,
        graphs=content.graphs,
        tables=content.tables,
        metrics=content.metrics,
        gates=content.gates,
        files={
            path.relative_to(folder).as_posix(): FileInfo(sha256=sha256_file(path), size=path.stat().st_size)
            for path in paths
        },
    )
    version = bundle_version(now, hashlib.sha256(_encode(draft)).hexdigest())
    raw = _encode(draft.model_copy(update={"version": version}))
    for name, blob in ((MANIFEST, raw), (MANIFEST_HASH, hash_line(raw))):
        (folder / name).write_bytes(blob)
        _sync_file(folder / name)
    return version


def _publish(staged: Path, target: Path) -> Path:
    for path in staged.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(staged)
    try:
        staged.rename(target)
    except OSError as error:  # a rename replaces an empty folder only
        raise BundleError(target.name, "is there already; export again for a new version") from error
    sync_folder(target.parent)
    return target


def _encode(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
