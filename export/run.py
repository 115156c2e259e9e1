"""From trained models to the content of a bundle: graphs, int8, index, tables, and the gates they passed."""

from export.card import CompressionCard
from export.gates import check, not_worse_gate, recall_gate
from export.graphs import describe
from export.index import AUTOMATIC, IndexWish, build_index
from export.neighbours import stored_lists
from export.parts import OnStep, choose_parts
from export.profile import PROFILES
from export.quality import requests
from export.write import BundleContent
from models.contract import bundle as layout
from models.contract.manifest import Gate, GraphInfo, Manifest, Profile, RetrievalInfo, TableInfo
from models.data.dataset import Dataset
from models.retrieval.snapshot import snapshot
from models.trained import Trained

NOT_WORSE_MARGIN = 0.02
MAIN_METRICS = ("all ndcg@10", "new ndcg@10")  # of the group "test", retrieval and ranking together

STEPS = ("tables", "user tower", "ranker", "neighbours", "index", "gates")


def build_content(
    dataset: Dataset,
    trained: Trained,
    *,
    code_version: str,
    clock_shift_ms: int = 0,
    metrics: dict[str, dict[str, float]] | None = None,
    compression: CompressionCard | None = None,
    active: Manifest | None = None,
    profile: Profile = "default",
    index_wish: IndexWish = AUTOMATIC,
    on_step: OnStep = lambda step: None,
) -> BundleContent:
    """Everything that goes into the bundle. Raises GateError when a gate fails, ValueError for an impossible wish.

    profile: what the bundle is made for, see export/profile.py.  metrics: figures of the evaluation, for the manifest
    and the card.  active: the bundle in service, which must not be better on the same test window by more than
    NOT_WORSE_MARGIN.  index_wish: a user's own kind of index and limit for its recall.
    """
    wanted = PROFILES[profile]
    on_step("tables")
    retrieval = snapshot(dataset, trained.retrieval, trained.until_ms)
    index_wish.check(retrieval.item_vectors.shape[1])
    asked = requests(dataset, retrieval)
    parts = choose_parts(dataset, trained, asked, wanted, on_step)
    vectors, tower, ranker = parts.vectors, parts.tower, parts.ranker
    form, tables = parts.neighbours.form
    lists = stored_lists(tables, form)
    on_step("index")
    index = build_index(vectors.form, asked.vectors, index_wish, smallest=wanted.smallest_index)
    on_step("gates")
    recall = recall_gate(index.info.recall, dataset.num_items, index_wish.recall)
    gates = [*parts.gates, recall, *_not_worse(metrics or {}, active)]
    check(gates)
    return BundleContent(
        code_version=code_version,
        data_fingerprint=dataset.fingerprint,
        as_of_ms=trained.until_ms,
        clock_shift_ms=clock_shift_ms,
        training_key=trained.key,
        schema=dataset.schema,
        retrieval=RetrievalInfo(
            model=trained.options.retrieval.model,
            dim=vectors.form.shape[1],
            history_length=retrieval.history_length,
            tensors=describe([tower.graph]),
        ),
        ranking=ranker.content if ranker else None,
        index=index.info,
        graphs=_compressed(trained, {layout.USER_TOWER: tower.info, **(ranker.graphs if ranker else {})}),
        profile=profile,
        tables={
            layout.ITEM_VECTORS: TableInfo(precision=vectors.form.precision, why=vectors.why),
            layout.NEIGHBOURS_SIMILARITY: TableInfo(precision=form.precision, why=parts.neighbours.why),
            **({layout.ITEM_PART: ranker.table} if ranker else {}),
        },
        gates=gates,
        items_folder=dataset.folder / "items",
        item_vectors=vectors.form,
        neighbours=lists.neighbours,
        neighbours_similarity=lists.similarity,
        neighbours_count=lists.counts,
        popular=retrieval.popular,
        user_tower=tower.graph,
        faiss_index=index.data,
        item_tables={"affinity": tables.affinity},
        metrics=metrics or {},
        compression=compression,
        notes=_notes(dataset, trained, parts.missed),
    )


def _compressed(trained: Trained, graphs: dict[str, GraphInfo]) -> dict[str, GraphInfo]:
    """With what was done to the models before the export, in the order in which it was done."""
    found = {}
    for path, info in graphs.items():
        before = trained.compression.get("retrieval" if path == layout.USER_TOWER else "ranking", [])
        found[path] = info.model_copy(update={"compression": [*before, *info.compression]})
    return found


def _not_worse(metrics: dict[str, dict[str, float]], active: Manifest | None) -> list[Gate]:
    """Compared only where both were measured on the same test window of the same data."""
    if active is None or metrics.get("test window") != active.metrics.get("test window"):
        return []
    new, old = metrics.get("test", {}), active.metrics.get("test", {})
    return [
        not_worse_gate(name, new[name], old[name], NOT_WORSE_MARGIN)
        for name in MAIN_METRICS
        if name in new and name in old
    ]


def _users_by_id(dataset: Dataset) -> str:
    """Who erases a user must know where they are."""
    if any(feature.is_id for feature in dataset.schema.categorical("user")):
        return (
            "Users are known by id: the ids of those in the training data stand in the manifest's schema, and the "
            "ranker has a row for each. Erasing a user from the feature store makes them unknown to this bundle; the "
            "row itself goes with the next training."
        )
    return "No model knows a user by id; a user is their history and features, and a new user is served the same way."


def _notes(dataset: Dataset, trained: Trained, missed: list[Gate]) -> str:
    lines = [
        f"Users: {dataset.num_users:,}. Interactions: {len(dataset.interactions):,}.",
        _users_by_id(dataset),
    ]
    ranked, plain = (trained.figures.get(name) for name in ("ndcg@10", "retrieval_ndcg@10"))
    if ranked is not None and plain is not None:
        verdict = "beats" if ranked > plain else "does NOT beat"
        lines.append(
            f"On the validation window the ranker's order {verdict} the retrieval order of the same candidates: "
            f"NDCG@10 {ranked:.4f} against {plain:.4f}."
        )
    if missed:
        told = ", ".join(f"{gate.name} {gate.value:.4g} against {gate.limit:.4g}" for gate in missed)
        lines.append(
            f"Tables that lose little each lost too much together ({told}); each was chosen by stricter limits."
        )
    return "\n".join(lines)
