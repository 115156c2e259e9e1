"""The figures of the ranker's variants: each ranks the same candidates of the same users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.compression.ranker_graphs import RankerGraphs
from export.compression.report import RankerRow, ScoreFigures, all_list_figures
from export.compression.requests import Asked, best
from export.compression.timing import interleaved_us
from export.graphs import Feed, open_session, run
from export.measure import rows_changed_by_batching
from models.contract.candidates import NUM_RANKED
from models.evaluate_ranker import Scored, evaluate_ranker
from models.report import RankerResult
from models.targets import Mode

BATCHED = 32  # requests for the comparison alone against together
TIMED = 64


@dataclass(frozen=True, slots=True)
class Ranked:
    """lists: int64 [R, 10] by mode.  results: of the scores."""

    lists: dict[Mode, NDArray[np.int64]]
    results: dict[Mode, RankerResult]


def ranker_rows(
    variants: Sequence[RankerGraphs],
    asked: Asked,
    calibration: Asked,
    seed: int,
    on_done: Callable[[str], None] = lambda variant: None,
) -> list[RankerRow]:
    """The figures of all variants; the first is the reference.  calibration: for timing and batches."""
    times = _times(variants, calibration, np.random.default_rng(seed))
    rows: list[RankerRow] = []
    reference: Ranked | None = None
    for graphs, (user_us, head_us) in zip(variants, times, strict=True):
        ranked = rank(graphs, asked, seed)
        reference = reference or ranked
        changed, tried = changed_by_batching(
            (graphs.user, graphs.user_feeds(calibration)[:BATCHED]),
            (graphs.head, graphs.head_feeds(calibration)[:BATCHED]),
        )
        rows.append(
            RankerRow(
                variant=graphs.variant,
                made=graphs.made,
                parameters=graphs.parameters,
                graph_bytes=len(graphs.user) + len(graphs.head),
                item_bytes=graphs.rows.nbytes,
                user_us=user_us,
                head_us=head_us,
                rows_changed=changed,
                rows_tried=tried,
                lists=all_list_figures(ranked.lists, reference.lists, asked, seed),
                scores={mode: _scores(ranked.results[mode], reference.results[mode]) for mode in ranked.results},
            )
        )
        on_done(graphs.variant)
    return rows


def rank(graphs: RankerGraphs, asked: Asked, seed: int) -> Ranked:
    """Every list of the requests, each ranked alone."""
    users, session = graphs.user_rows(asked), open_session(graphs.head)
    top: dict[Mode, NDArray[np.int64]] = {}
    results: dict[Mode, RankerResult] = {}
    for mode, lists in asked.lists.items():
        scores = [
            run(session, graphs.head_feed(users[owner], found.items, cross))
            for owner, found, cross in zip(lists.owners, lists.found, lists.cross, strict=True)
        ]
        items = [found.items for found in lists.found]
        top[mode] = np.stack([best(*one) for one in zip(items, scores, strict=True)])
        offsets = np.cumsum([0, *map(len, items)]).astype(np.int64)
        scored = Scored(offsets, np.concatenate(items), np.concatenate(scores))
        results[mode] = evaluate_ranker(scored, asked.targets[mode], seed)
    return Ranked(top, results)


def changed_by_batching(*graphs: tuple[bytes, Sequence[Feed]]) -> tuple[int, int]:
    """Output rows that are not bitwise the same alone and in a batch, and how many there were."""
    tried = sum(len(run(open_session(graph), feed)) for graph, feeds in graphs for feed in feeds)
    return sum(rows_changed_by_batching(graph, feeds) for graph, feeds in graphs), tried


def _scores(found: RankerResult, reference: RankerResult) -> ScoreFigures:
    return ScoreFigures(found.auc, found.auc - reference.auc, found.calibration_error, found.predicted_over_actual)


def _times(variants: Sequence[RankerGraphs], asked: Asked, rng: np.random.Generator) -> list[tuple[float, float]]:
    """User graph and head of each variant, microseconds. The head takes 200 rows gathered at random: in serving the
    candidates differ from request to request, and their rows are in no cache."""
    lists = next(iter(asked.lists.values()))
    cross = [np.resize(one, (NUM_RANKED, one.shape[1])) for one in lists.cross[:TIMED]]
    drawn = rng.integers(0, len(variants[0].rows), (len(cross), NUM_RANKED))
    users = [partial(run_all, open_session(one.user), one.user_feeds(asked)[: len(cross)]) for one in variants]
    heads = [partial(_run_heads, one, one.user_rows(asked), drawn, cross, open_session(one.head)) for one in variants]
    times = interleaved_us([*users, *heads], len(cross))
    return list(zip(times[: len(variants)], times[len(variants) :], strict=True))


def run_all(session: ort.InferenceSession, feeds: Sequence[Feed]) -> None:
    for feed in feeds:
        run(session, feed)


def _run_heads(
    graphs: RankerGraphs,
    users: Sequence[NDArray[np.float32]],
    drawn: NDArray[np.int64],
    cross: Sequence[NDArray[np.float32]],
    session: ort.InferenceSession,
) -> None:
    for user, items, one in zip(users, drawn, cross, strict=False):
        run(session, graphs.head_feed(user, items, one))
