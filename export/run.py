"""From trained models to the content of a bundle: graphs, int8, index, tables, and the gates they passed."""

from collections.abc import Callable

from export.gates import check, not_worse_gate, recall_gate
from export.graphs import describe
from export.index import build_index
from export.quality import requests
from export.ship import ship_ranker, ship_tower
from export.write import BundleContent
from models.contract import bundle as layout
from models.contract.manifest import Gate, Manifest, RetrievalInfo
from models.data.dataset import Dataset
from models.retrieval.snapshot import snapshot
from models.train import Trained

NOT_WORSE_MARGIN = 0.02
MAIN_METRICS = ("all ndcg@10", "new ndcg@10")  # of the group "test", retrieval and ranking together

OnStep = Callable[[str], None]
STEPS = ("tables", "user tower", "ranker", "index", "gates")


def build_content(
    dataset: Dataset,
    trained: Trained,
    *,
    code_version: str,
    clock_shift_ms: int = 0,
    metrics: dict[str, dict[str, float]] | None = None,
    active: Manifest | None = None,
    on_step: OnStep = lambda step: None,
) -> BundleContent:
    """Everything that goes into the bundle. Raises GateError when a gate fails.

    metrics: figures of the evaluation, for the manifest and the card.  active: the bundle in service, which must not
    be better on the same test window by more than NOT_WORSE_MARGIN.
    """
    on_step("tables")
    retrieval = snapshot(dataset, trained.retrieval, trained.until_ms)
    asked = requests(dataset, retrieval)
    on_step("user tower")
    tower = ship_tower(trained.retrieval, asked)
    on_step("ranker")
    ranker = ship_ranker(dataset, trained, trained.ranker, asked) if trained.ranker is not None else None
    on_step("index")
    index = build_index(retrieval.item_vectors, asked.vectors)
    on_step("gates")
    gates = [
        *tower.gates,
        *(ranker.gates if ranker else []),
        recall_gate(index.info.recall, dataset.num_items),
        *_not_worse(metrics or {}, active),
    ]
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
            dim=retrieval.item_vectors.shape[1],
            history_length=retrieval.history_length,
            tensors=describe([tower.graph]),
        ),
        ranking=ranker.content if ranker else None,
        index=index.info,
        graphs={layout.USER_TOWER: tower.info, **(ranker.graphs if ranker else {})},
        gates=gates,
        items_folder=dataset.folder / "items",
        item_vectors=retrieval.item_vectors,
        neighbours=retrieval.tables.neighbours,
        neighbours_similarity=retrieval.tables.similarity,
        popular=retrieval.popular,
        user_tower=tower.graph,
        faiss_index=index.data,
        item_tables={"affinity": retrieval.tables.affinity},
        metrics=metrics or {},
        notes=_notes(dataset, trained),
    )


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


def _notes(dataset: Dataset, trained: Trained) -> str:
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
    return "\n".join(lines)
