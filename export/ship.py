"""Each graph in the precision that it ships in: exported, compared with torch, quantized, measured, chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.gates import batch_gate, parity_gate
from export.graphs import (
    FEATURE_TOWER_IO,
    HISTORY_RANKING_USER_IO,
    RANKING_HEAD_IO,
    RANKING_USER_IO,
    USER_TOWER_IO,
    Feed,
    GraphIO,
    describe,
    parity,
    size_feeds,
    to_onnx,
)
from export.measure import choose, join, rows_changed_by_batching, time_both
from export.quality import RankedRequests, Requests, ranked_requests, ranking_gates, tower_gates, user_rows
from export.quantize import quantize
from export.write import RankingContent
from models.contract import bundle as layout
from models.contract.features import cross_names
from models.contract.manifest import Gate, GraphInfo, RankingInfo
from models.data.dataset import Dataset
from models.ranking.inputs import item_codes
from models.ranking.pieces import Ranker
from models.ranking.samples import item_numbers
from models.retrieval.model import RetrievalModel
from models.train import Trained

CALIBRATION = 128
TIMED = 32


@dataclass(frozen=True, slots=True)
class Shipped:
    """A graph in the precision it ships in.  gates: those it has to pass in that precision."""

    graph: bytes
    info: GraphInfo
    gates: list[Gate]


@dataclass(frozen=True, slots=True)
class ShippedRanker:
    """graphs: by path in the bundle, what was shipped and why."""

    content: RankingContent
    graphs: dict[str, GraphInfo]
    gates: list[Gate]


def ship_tower(model: RetrievalModel, asked: Requests) -> Shipped:
    """The user tower, judged by the nearest items of its vectors."""
    names = FEATURE_TOWER_IO if model.user_features else USER_TOWER_IO
    feeds = asked.tower_feeds()
    fp32 = to_onnx(model, names, _sample_of(feeds))
    return _ship("user_tower", model, names, fp32, feeds, lambda fp32, int8: tower_gates(asked, fp32, int8))


def ship_ranker(dataset: Dataset, trained: Trained, model: Ranker, asked: Requests) -> ShippedRanker:
    """The ranker in its three pieces, judged by the order of real candidates."""
    item_part = _item_part(dataset, trained, model)
    num_cross = model.head_module.cross_weight.shape[0]
    history_length = model.user_module.history_length
    ranked = ranked_requests(dataset, asked, num_cross, model.user_inputs, history_length)
    plain_head = _head_onnx(model, ranked, item_part)
    user = _ship_ranking_user(model, ranked, plain_head, item_part)
    head = _ship_head(model.head_module, plain_head, ranked, user.graph, item_part)
    tensors = describe([user.graph, head.graph])
    info = RankingInfo(
        model=trained.options.ranker.model,
        user_dim=next(int(t.shape[1]) for t in tensors if t.name == "user"),
        item_part_dim=item_part.shape[1],
        cross_features=cross_names(dataset.schema)[:num_cross],
        history_length=history_length,
        tensors=tensors,
    )
    return ShippedRanker(
        RankingContent(info, item_part, user.graph, head.graph),
        {layout.RANKING_USER: user.info, layout.RANKING_HEAD: head.info},
        [*user.gates, *head.gates],
    )


def _head_onnx(model: Ranker, ranked: RankedRequests, item_part: NDArray[np.float32]) -> bytes:
    """The fp32 head: the user graph is judged with it before its own precision is chosen."""
    with torch.inference_mode():
        rows = [
            model.user_module(*(torch.from_numpy(feed[name]) for name in model.user_inputs)).numpy()
            for feed in ranked.users[:2]
        ]
    sample = RankedRequests(ranked.asked, ranked.found[:2], ranked.owners[:2], ranked.users[:2], ranked.cross[:2])
    return to_onnx(model.head_module, RANKING_HEAD_IO, join(sample.head_feeds(rows, item_part)))


def _ship_ranking_user(model: Ranker, ranked: RankedRequests, head: bytes, item_part: NDArray[np.float32]) -> Shipped:
    user_io = HISTORY_RANKING_USER_IO if model.user_module.history_length else RANKING_USER_IO
    return _ship(
        "ranking_user",
        model.user_module,
        user_io,
        to_onnx(model.user_module, user_io, _sample_of(ranked.users)),
        ranked.users,
        lambda fp32, int8: ranking_gates("ranking_user", ranked, (fp32, head), (int8, head), item_part),
    )


def _ship_head(
    module: nn.Module, fp32: bytes, ranked: RankedRequests, user_graph: bytes, item_part: NDArray[np.float32]
) -> Shipped:
    """Calibrated and judged behind the user graph that ships."""
    feeds = ranked.head_feeds(user_rows(ranked, user_graph), item_part)
    return _ship(
        "ranking_head",
        module,
        RANKING_HEAD_IO,
        fp32,
        feeds,
        lambda fp32, int8: ranking_gates("ranking_head", ranked, (user_graph, fp32), (user_graph, int8), item_part),
    )


def _ship(
    name: str,
    module: nn.Module,
    io: GraphIO,
    fp32: bytes,
    feeds: Sequence[Feed],
    quality: Callable[[bytes, bytes], list[Gate]],
) -> Shipped:
    """Compare the graph with torch, quantize it, measure, and choose the precision."""
    sizes = size_feeds(io, _sample_of(feeds))
    gates = [parity_gate(name, parity(module, io, fp32, [*sizes, *feeds[:TIMED]]))]
    int8 = quantize(fp32, feeds[:CALIBRATION])
    if int8 is None:
        info, graph = choose(None, []), fp32
    else:
        judged = quality(fp32, int8)
        info = choose(time_both(fp32, int8, feeds[:TIMED]), judged)
        graph = int8 if info.precision == "int8" else fp32
        if info.precision == "int8":
            gates += judged
    gates.append(batch_gate(name, rows_changed_by_batching(graph, feeds[:TIMED])))
    return Shipped(graph, info, gates)


def _sample_of(feeds: Sequence[Feed]) -> Feed:
    """Two requests, as the exporter wants them."""
    return join(feeds[:2]) if len(feeds) > 1 else join([feeds[0], feeds[0]])


def _item_part(dataset: Dataset, trained: Trained, model: Ranker) -> NDArray[np.float32]:
    """The ranker's row of each item, float32 [N, h], with how the item sells as of the end of training."""
    past = dataset.interactions.before(trained.until_ms)
    with torch.inference_mode():
        rows: NDArray[np.float32] = model.item_part(
            item_codes(dataset),
            torch.from_numpy(item_numbers(dataset, past, trained.until_ms)),
        ).numpy()
    return rows
