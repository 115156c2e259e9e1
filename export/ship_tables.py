"""Each table in the form that it ships in: the smallest one inside the profile's limits."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.choose_table import Chosen, smallest
from export.embeddings import compact_embeddings
from export.gates import Lost, batch_gate
from export.item_rows import StoredRows, principal_components, reading, stored_rows
from export.measure import rows_changed_by_batching
from export.profile import Components, ExportProfile, RowForm
from export.quality import RankedRequests, RankingParts, Requests, ranking_loss, user_rows, vectors_loss
from models.contract.tables import RowTable


def ship_vectors(asked: Requests, profile: ExportProfile) -> Chosen[RowTable]:
    """The item vectors, judged by the nearest items of real users."""
    rows = asked.retrieval.item_vectors
    forms = [(precision, RowTable.of(rows, precision)) for precision in profile.vectors if precision != "fp32"]
    plain = ("fp32", RowTable.of(rows, "fp32"))
    return smallest("item_vectors", forms, plain, profile.limits, lambda form: vectors_loss(asked, form[:]))


def ship_rows(parts: RankingParts, ranked: RankedRequests, profile: ExportProfile, timed: int) -> Chosen[StoredRows]:
    """The item rows in the smallest form inside the limits; the head that reads them must not depend on the batch.

    timed: requests that are tried in batches.
    """
    plain = stored_rows(parts.item_part, "fp32")
    made = (_row_form(parts.item_part, form) for form in profile.item_rows if form != "fp32")
    forms = [(form.what, form) for form in made if form is not None]
    chosen = smallest(
        "item_part",
        forms,
        (plain.what, plain),
        profile.limits,
        lambda form: ranking_loss(ranked, parts, RankingParts(parts.user, reading(parts.head, form), form.table)),
    )
    if chosen.form is plain:
        return chosen
    feeds = ranked.head_feeds(user_rows(ranked, parts.user), chosen.form.table)
    changed = rows_changed_by_batching(reading(parts.head, chosen.form), feeds[:timed])
    return replace(chosen, gates=[*chosen.gates, batch_gate("item_part", changed)])


def _row_form(rows: NDArray[np.float32], form: RowForm) -> StoredRows | None:
    return principal_components(rows, form.max_residual) if isinstance(form, Components) else stored_rows(rows, form)


def ship_embeddings(
    name: str, graph: bytes, lost: Callable[[bytes, bytes], Lost], profile: ExportProfile
) -> Chosen[bytes] | None:
    """The graph with smaller embedding tables; None where it has no large one, or the profile leaves them alone."""
    made = ((precision, compact_embeddings(graph, precision)) for precision in profile.embeddings)
    forms = [(precision, smaller) for precision, smaller in made if smaller is not None]
    if not forms:
        return None
    return smallest(f"embeddings of {name}", forms, ("fp32", graph), profile.limits, lambda form: lost(graph, form))
