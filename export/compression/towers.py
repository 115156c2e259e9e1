"""Variants of the user tower: each user vector against the whole catalogue, exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.compression.ranker_graphs import CALIBRATION, NARROW, QUANTIZERS, two
from export.compression.rankers import BATCHED, TIMED, changed_by_batching, run_all
from export.compression.report import TowerRow, all_list_figures
from export.compression.requests import Asked, K
from export.compression.timing import interleaved_us
from export.embeddings import compact_embeddings
from export.graphs import FEATURE_TOWER_IO, USER_TOWER_IO, open_session, run, to_onnx
from export.quantize import quantize
from models.compress.size import parameters
from models.contract.tables import Precision, RowTable
from models.targets import Mode
from models.trained import Trained

BATCH = 64


@dataclass(frozen=True, slots=True)
class Tower:
    """graph: ONNX.  vectors: of the items, [N, d].  names, history_length: what the graph takes."""

    variant: str
    made: list[str]
    parameters: int
    graph: bytes
    vectors: RowTable
    names: tuple[str, ...]
    history_length: int

    def feeds(self, asked: Asked) -> list[dict[str, NDArray[Any]]]:
        return asked.user_feeds(self.names, self.history_length)


def teacher_towers(trained: Trained, calibration: Asked) -> list[Tower]:
    """The tower as it was trained, in every precision; the first is the reference."""
    plain = plain_tower("fp32", trained, calibration)
    feeds = plain.feeds(calibration)[:CALIBRATION]
    found = [plain, *(_quantized(plain, name, make(plain.graph, feeds)) for name, make in QUANTIZERS.items())]
    return [*found[:2], *(_narrow(found[1], kind) for kind in NARROW), *found[2:]]


def compressed_towers(name: str, trained: Trained, calibration: Asked) -> list[Tower]:
    """A compressed tower in fp32 and in int8."""
    plain = plain_tower(f"{name} fp32", trained, calibration)
    return [plain, _quantized(plain, f"{name} int8", quantize(plain.graph, plain.feeds(calibration)[:CALIBRATION]))]


def plain_tower(variant: str, trained: Trained, calibration: Asked) -> Tower:
    model = trained.retrieval
    feeds = calibration.user_feeds(model.tower_inputs, model.history_length)
    with torch.inference_mode():
        vectors = model.item_vectors().numpy()
    return Tower(
        variant=variant,
        made=trained.compression.get("retrieval", []),
        parameters=parameters(model),
        graph=to_onnx(model, FEATURE_TOWER_IO if model.user_features else USER_TOWER_IO, two(feeds)),
        vectors=RowTable(vectors),
        names=model.tower_inputs,
        history_length=model.history_length,
    )


def tower_rows(
    variants: Sequence[Tower],
    asked: Asked,
    calibration: Asked,
    seed: int,
    on_done: Callable[[str], None] = lambda variant: None,
) -> list[TowerRow]:
    """The figures of all variants; the first is the reference.  calibration: for timing and batches."""
    works = [partial(run_all, open_session(one.graph), one.feeds(calibration)[:TIMED]) for one in variants]
    times = interleaved_us(works, min(TIMED, len(calibration.users)))
    rows: list[TowerRow] = []
    reference: dict[Mode, NDArray[np.int64]] | None = None
    for one, request_us in zip(variants, times, strict=True):
        lists = nearest_lists(one, asked)
        reference = reference or lists
        changed, tried = changed_by_batching((one.graph, one.feeds(calibration)[:BATCHED]))
        rows.append(
            TowerRow(
                variant=one.variant,
                made=one.made,
                parameters=one.parameters,
                graph_bytes=len(one.graph),
                item_bytes=sum(part.nbytes for part in (one.vectors.stored, one.vectors.scales) if part is not None),
                request_us=request_us,
                rows_changed=changed,
                rows_tried=tried,
                lists=all_list_figures(lists, reference, asked, seed),
            )
        )
        on_done(one.variant)
    return rows


def nearest_lists(tower: Tower, asked: Asked) -> dict[Mode, NDArray[np.int64]]:
    """The K items nearest to each user's vector, int64 [R, K] by mode; in mode `new` without what the user has seen."""
    session, items = open_session(tower.graph), tower.vectors[:]
    vectors = np.concatenate([run(session, feed) for feed in tower.feeds(asked)])  # [U, d]
    found: dict[Mode, NDArray[np.int64]] = {}
    for mode, lists in asked.lists.items():
        owners = np.array(lists.owners)
        top = np.full((len(owners), K), -1, np.int64)
        for start in range(0, len(owners), BATCH):
            chunk = owners[start : start + BATCH]
            scores = vectors[chunk] @ items.T  # [b, N]
            if mode == "new":
                for row, owner in enumerate(chunk.tolist()):
                    scores[row, asked.seen[owner]] = -np.inf
            nearest = _top(scores)
            top[start : start + len(chunk), : nearest.shape[1]] = nearest
        found[mode] = top
    return found


def _top(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Best first, ties by item index, int64 [b, at most K]; -1 for an item that is left out."""
    count = min(K, scores.shape[1])
    items = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
    picked = np.take_along_axis(scores, items, 1)
    order = np.argsort(-picked, axis=1, kind="stable")
    items, picked = np.take_along_axis(items, order, 1), np.take_along_axis(picked, order, 1)
    return np.where(np.isneginf(picked), -1, items)


def _narrow(tower: Tower, kind: Precision) -> Tower:
    """Its embeddings and the item vectors in fewer bits."""
    graph = compact_embeddings(tower.graph, kind) or tower.graph
    return replace(tower, variant=f"int8, {kind} tables", graph=graph, vectors=RowTable.of(tower.vectors[:], kind))


def _quantized(plain: Tower, variant: str, graph: bytes | None) -> Tower:
    return replace(plain, variant=variant, graph=graph or plain.graph)
