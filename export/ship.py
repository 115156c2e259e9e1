"""Each graph in the precision that it ships in: exported, compared with torch, quantized, measured, chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.gates import Lost, batch_gate, int8_gates, parity_gate
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
from export.item_rows import reading
from export.measure import choose, join, rows_changed_by_batching, time_both
from export.profile import ExportProfile
from export.quality import (
    RankedRequests,
    RankingParts,
    Requests,
    ranked_requests,
    ranking_loss,
    tower_loss,
    user_rows,
)
from export.quantize import quantize
from export.ship_tables import ship_embeddings, ship_rows
from export.user_tables import summed
from export.write import RankingContent
from models.contract import bundle as layout
from models.contract.features import cross_names
from models.contract.manifest import Gate, GraphInfo, RankingInfo, TableInfo
from models.data.dataset import Dataset
from models.ranking.inputs import item_codes
from models.ranking.pieces import Ranker
from models.ranking.samples import item_numbers
from models.ranking.train import ranker_inputs
from models.retrieval.model import RetrievalModel
from models.trained import Trained

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
    """graphs: by path in the bundle, what was shipped and why.  table: of the item rows.  plain: all in float32."""

    content: RankingContent
    graphs: dict[str, GraphInfo]
    gates: list[Gate]
    table: TableInfo
    plain: RankingParts

    @property
    def parts(self) -> RankingParts:
        return RankingParts(self.content.user, self.content.head, self.content.item_part)


def ship_tower(model: RetrievalModel, asked: Requests, profile: ExportProfile) -> Shipped:
    """The user tower, judged by the nearest items of its vectors."""
    names = FEATURE_TOWER_IO if model.user_features else USER_TOWER_IO
    feeds = asked.tower_feeds()
    fp32 = to_onnx(model, names, _sample_of(feeds))
    return _ship("user_tower", model, names, fp32, feeds, lambda one, other: tower_loss(asked, one, other), profile)


def ship_ranker(
    dataset: Dataset, trained: Trained, model: Ranker, asked: Requests, profile: ExportProfile
) -> ShippedRanker:
    """The ranker in its three pieces, judged by the order of real candidates."""
    item_part = _item_part(dataset, trained, model)
    num_cross = model.head_module.cross_weight.shape[0]
    history_length = model.user_module.history_length
    ranked = ranked_requests(dataset, asked, num_cross, model.user_inputs, history_length)
    plain_user, plain_head = _user_onnx(dataset, model, ranked), _head_onnx(model, ranked, item_part)
    user = _ship_ranking_user(model, plain_user, ranked, plain_head, item_part, profile)
    head = _ship_head(model.head_module, plain_head, ranked, user.graph, item_part, profile)
    rows = ship_rows(RankingParts(user.graph, head.graph, item_part), ranked, profile, TIMED)
    last_head = reading(head.graph, rows.form)
    tensors = describe([user.graph, last_head])
    info = RankingInfo(
        model=trained.options.ranker.model,
        user_dim=next(int(t.shape[1]) for t in tensors if t.name == "user"),
        item_part_dim=rows.form.table.shape[1],
        cross_features=cross_names(dataset.schema)[:num_cross],
        history_length=history_length,
        tensors=tensors,
    )
    return ShippedRanker(
        RankingContent(info, rows.form.table, user.graph, last_head),
        {layout.RANKING_USER: user.info, layout.RANKING_HEAD: head.info},
        [*user.gates, *head.gates, *rows.gates],
        TableInfo(precision=rows.form.precision, why=rows.why),
        RankingParts(plain_user, plain_head, item_part),
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


def _user_io(model: Ranker) -> GraphIO:
    return HISTORY_RANKING_USER_IO if model.user_module.history_length else RANKING_USER_IO


def _user_onnx(dataset: Dataset, model: Ranker, ranked: RankedRequests) -> bytes:
    inputs = ranker_inputs(dataset, candidates=False)
    tables = summed(model.user_module, list(inputs.user_sizes.values()), inputs.user_numeric)
    return to_onnx(tables or model.user_module, _user_io(model), _sample_of(ranked.users))


def _ship_ranking_user(
    model: Ranker,
    fp32: bytes,
    ranked: RankedRequests,
    head: bytes,
    item_part: NDArray[np.float32],
    profile: ExportProfile,
) -> Shipped:
    def lost(one: bytes, other: bytes) -> Lost:
        return ranking_loss(ranked, RankingParts(one, head, item_part), RankingParts(other, head, item_part))

    return _ship("ranking_user", model.user_module, _user_io(model), fp32, ranked.users, lost, profile)


def _ship_head(
    module: nn.Module,
    fp32: bytes,
    ranked: RankedRequests,
    user_graph: bytes,
    item_part: NDArray[np.float32],
    profile: ExportProfile,
) -> Shipped:
    """Calibrated and judged behind the user graph that ships."""
    feeds = ranked.head_feeds(user_rows(ranked, user_graph), item_part)

    def lost(one: bytes, other: bytes) -> Lost:
        return ranking_loss(
            ranked, RankingParts(user_graph, one, item_part), RankingParts(user_graph, other, item_part)
        )

    return _ship("ranking_head", module, RANKING_HEAD_IO, fp32, feeds, lost, profile)


def _ship(
    name: str,
    module: nn.Module,
    io: GraphIO,
    fp32: bytes,
    feeds: Sequence[Feed],
    lost: Callable[[bytes, bytes], Lost],
    profile: ExportProfile,
) -> Shipped:
    """Compare the graph with torch, quantize it, measure, and choose the precision; then that of its embeddings."""
    sizes = size_feeds(io, _sample_of(feeds))
    gates = [parity_gate(name, parity(module, io, fp32, [*sizes, *feeds[:TIMED]]))]
    int8 = quantize(fp32, feeds[:CALIBRATION])
    if int8 is None:
        info, graph = choose(None, []), fp32
    else:
        judged = int8_gates(name, *lost(fp32, int8))
        info = choose(time_both(fp32, int8, feeds[:TIMED]), judged)
        graph = int8 if info.precision == "int8" else fp32
        if info.precision == "int8":
            gates += judged
    if (smaller := ship_embeddings(name, graph, lost, profile)) is not None:
        graph, gates = smaller.form, [*gates, *smaller.gates]
        info = info.model_copy(update={"compression": [f"embeddings {smaller.why}"]})
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
