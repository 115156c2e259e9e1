"""What is searched when `[tune.space]` is left out: for each model the few keys that most decide what it reaches."""

from typing import Any

RETRIEVAL: dict[str, dict[str, Any]] = {
    "sasrec": {
        "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
        "dim": [32, 64, 128],
        "layers": {"low": 1, "high": 3},
        "dropout": {"low": 0.0, "high": 0.5},
        "id_dropout": {"low": 0.0, "high": 0.4},
    },
    "two_tower": {
        "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
        "dim": [32, 64, 128],
        "hidden": [[64], [128], [256, 128]],
        "temperature": {"low": 0.03, "high": 0.3, "log": True},
        "dropout": {"low": 0.0, "high": 0.4},
        "id_dropout": {"low": 0.0, "high": 0.4},
    },
    "bpr": {
        "learning_rate": {"low": 1e-3, "high": 5e-2, "log": True},
        "dim": [32, 64, 128],
        "l2": {"low": 1e-4, "high": 0.1, "log": True},
        "negatives": {"low": 1, "high": 8},
    },
    "lightgcn": {
        "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
        "dim": [32, 64, 128],
        "layers": {"low": 1, "high": 4},
    },
    "gcn": {
        "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
        "dim": [32, 64, 128],
        "hidden": [64, 128, 256],
        "dropout": {"low": 0.0, "high": 0.4},
    },
    "ials": {
        "dim": [32, 64, 128, 256],
        "unobserved_weight": {"low": 0.02, "high": 2.0, "log": True},
        "regularization": {"low": 3e-4, "high": 0.1, "log": True},
    },
    "ease": {"regularization": {"low": 10.0, "high": 5000.0, "log": True}},
    "item_to_item": {
        "weighting": ["cosine", "bm25"],
        "neighbours": {"low": 10, "high": 500, "log": True},
        "shrinkage": {"low": 0.0, "high": 50.0},
    },
    "popularity": {"half_life_days": {"low": 1.0, "high": 365.0, "log": True}},
    "content": {
        "half_life_sets": {"low": 1.0, "high": 100.0, "log": True},
        "category_weight": {"low": 0.1, "high": 3.0, "log": True},
        "numeric_weight": {"low": 0.0, "high": 1.0},
    },
}
_RATES: dict[str, Any] = {
    "learning_rate": {"low": 3e-4, "high": 2e-2, "log": True},
    "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
}
_LAYERS: dict[str, Any] = {
    "hidden": [[64], [128, 64], [256, 128, 64]],
    "dropout": {"low": 0.0, "high": 0.4},
    "embedding_dropout": {"low": 0.0, "high": 0.4},
}


def default_space(stage: str, model: str) -> dict[str, Any]:
    """As `[tune.space]` would give it."""
    if stage == "retrieval":
        return RETRIEVAL[model]
    if model == "lr":
        return _RATES
    with_vectors = _RATES | {"dim": [8, 16, 32]}
    if model in ("fm", "ffm", "gmf"):
        return with_vectors
    if model == "transformer":
        return with_vectors | {"layers": {"low": 1, "high": 3}, "dropout": {"low": 0.0, "high": 0.4}}
    return with_vectors | _LAYERS
