"""Variants of the ranker as the graphs and item rows that serving would have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.compression import quantizers
from export.compression.requests import Asked
from export.graphs import (
    HISTORY_RANKING_USER_IO,
    RANKING_HEAD_IO,
    RANKING_USER_IO,
    Feed,
    open_session,
    run,
    to_onnx,
)
from export.item_rows import StoredRows, principal_components, reading, stored_rows
from export.measure import join
from export.profile import PROFILES, Components
from export.quantize import quantize
from models.compress.size import parameters
from models.contract.tables import Precision
from models.data.dataset import Dataset
from models.ranking.inputs import item_codes
from models.ranking.pieces import Ranker
from models.ranking.samples import item_numbers
from models.trained import Trained

CALIBRATION = 128

Quantizer = Callable[[bytes, Sequence[Feed]], bytes | None]
QUANTIZERS: dict[str, Quantizer] = {
    "int8": quantize,
    "int8 dynamic": quantizers.dynamic,
    "int8 QDQ": quantizers.static_qdq,
}
NARROW: tuple[Precision, ...] = ("fp16", "int8")  # tables, beside int8 graphs

# as the edge profile tries them
COMPONENTS = dict(
    zip(
        ("int8, fewer components", "int8, components"),
        (form for form in PROFILES["edge"].item_rows if isinstance(form, Components)),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class RankerGraphs:
    """user, head: ONNX.  rows: of every item, [N, h], of the type that the head takes.  user_names, history_length,
    num_cross: what the graphs take."""

    variant: str
    made: list[str]
    parameters: int
    user: bytes
    head: bytes
    rows: NDArray[Any]
    user_names: tuple[str, ...]
    history_length: int
    num_cross: int

    def user_feeds(self, asked: Asked) -> list[dict[str, NDArray[Any]]]:
        return asked.user_feeds(self.user_names, self.history_length)

    def user_rows(self, asked: Asked) -> list[NDArray[np.float32]]:
        """What the user graph gives for each user, float32 [1, u]."""
        session = open_session(self.user)
        return [run(session, feed) for feed in self.user_feeds(asked)]

    def head_feed(self, user: NDArray[np.float32], items: NDArray[np.int64], cross: NDArray[np.float32]) -> Feed:
        """user: float32 [1, u].  items: int64 [n].  cross: float32 [n, c]."""
        return {
            "user": user,
            "item_part": self.rows[items],
            "cross": np.ascontiguousarray(cross[:, : self.num_cross]),
            "row_user": np.zeros(len(items), np.int64),
        }

    def head_feeds(self, asked: Asked) -> list[Feed]:
        """A feed a list, the lists of one user behind each other."""
        users = self.user_rows(asked)
        lists = [one for mode in asked.lists.values() for one in zip(mode.owners, mode.found, mode.cross, strict=True)]
        lists.sort(key=lambda one: one[0])
        return [self.head_feed(users[owner], found.items, cross) for owner, found, cross in lists]


def teacher_variants(dataset: Dataset, trained: Trained, calibration: Asked) -> list[RankerGraphs]:
    """The ranker as it was trained, in every precision; the first is the reference."""
    plain = plain_graphs("fp32", dataset, trained, calibration)
    int8, *others = (_quantized(plain, name, make, calibration) for name, make in QUANTIZERS.items())
    narrow = [_with_rows(int8, f"int8, {kind} rows", stored_rows(plain.rows, kind)) for kind in NARROW]
    for name, form in COMPONENTS.items():
        if (components := principal_components(plain.rows, form.max_residual)) is not None:
            narrow.append(_with_rows(int8, name, components))
    return [plain, int8, *narrow, *others]


def compressed_variants(name: str, dataset: Dataset, trained: Trained, calibration: Asked) -> list[RankerGraphs]:
    """A compressed ranker in fp32 and in int8."""
    plain = plain_graphs(f"{name} fp32", dataset, trained, calibration)
    return [plain, _quantized(plain, f"{name} int8", quantize, calibration)]


def plain_graphs(variant: str, dataset: Dataset, trained: Trained, calibration: Asked) -> RankerGraphs:
    """fp32. Only for models with a ranker."""
    model = trained.ranker
    assert model is not None
    length = model.user_module.history_length
    io = HISTORY_RANKING_USER_IO if length else RANKING_USER_IO
    draft = RankerGraphs(
        variant=variant,
        made=trained.compression.get("ranking", []),
        parameters=parameters(model),
        user=to_onnx(model.user_module, io, two(calibration.user_feeds(model.user_inputs, length))),
        head=b"",
        rows=_item_rows(dataset, model, trained.until_ms),
        user_names=model.user_inputs,
        history_length=length,
        num_cross=model.head_module.cross_weight.shape[0],
    )
    return replace(draft, head=to_onnx(model.head_module, RANKING_HEAD_IO, two(draft.head_feeds(calibration))))


def two(feeds: Sequence[Feed]) -> Feed:
    """Two requests, as the exporter wants them."""
    return join([feeds[0], feeds[-1]])


def _with_rows(graphs: RankerGraphs, variant: str, rows: StoredRows) -> RankerGraphs:
    """The same with item rows in fewer bits: the head makes them float32 again."""
    return replace(graphs, variant=variant, head=reading(graphs.head, rows), rows=rows.table)


def _quantized(plain: RankerGraphs, variant: str, make: Quantizer, calibration: Asked) -> RankerGraphs:
    """Both graphs quantized, the head calibrated behind the user graph that it will have; a graph without a product
    worth it stays."""
    user = make(plain.user, plain.user_feeds(calibration)[:CALIBRATION]) or plain.user
    draft = replace(plain, variant=variant, user=user)
    return replace(draft, head=make(plain.head, draft.head_feeds(calibration)[:CALIBRATION]) or plain.head)


def _item_rows(dataset: Dataset, model: Ranker, until_ms: int) -> NDArray[np.float32]:
    """The ranker's row of each item, float32 [N, h], with how the item sells as of until_ms."""
    numbers = item_numbers(dataset, dataset.interactions.before(until_ms), until_ms)
    with torch.inference_mode():
        rows: NDArray[np.float32] = model.item_part(item_codes(dataset), torch.from_numpy(numbers)).numpy()
    return rows
