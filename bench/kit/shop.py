"""A shop that never was, as the Parquet files and the shortlist.toml that a team would bring.

Items lie in clusters of unequal size, as vectors of learned models do: the recall of an index depends on it, and on
noise it would be another. Users have a few favourite clusters, and what they take there is as popular as in Zipf's
law, so that item-to-item neighbours exist.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

DIM, DIM_OF_LARGE, LARGE = 64, 32, 5_000_000  # a graph holds at most 2 GB, and the user tower's has all item vectors
NOISE = 0.7  # of an item about its cluster's centre, beside the centres' own spread
ITEMS_PER_CLUSTER, MAX_CLUSTERS = 200, 5_000
NUM_CATEGORIES, NUM_BRANDS = 200, 2_000
POPULARITY_POWER = 0.8  # popularity falls as rank ** -0.8
FAVOURITE_SHARE = 0.9  # of the interactions that fall into favourite clusters
MIN_HISTORY, MAX_HISTORY = 10, 200
DAYS = 180
END_MS = 1_751_328_000_000  # 2025-07-01; the export moves the data to today
DAY_MS = 86_400_000
BLOCK = 500_000  # items made at once

AGE_GROUPS = ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"]
REGIONS = [f"region {number}" for number in range(1, 21)]
DEVICES = ["phone", "desktop", "tablet"]

CONFIG = """\
# A synthetic catalogue of {num_items} items and {num_users} users, made by `shortlist bench`.

[interactions]
path = "interactions.parquet"
timestamp = "time_ms"
time_unit = "ms"
context = ["device"]

[items]
path = "items.parquet"
returned = ["title", "category", "brand", "price"]
filterable = ["category", "brand"]
affinity = ["category", "brand"]
features = [
    {{ name = "category", kind = "categorical" }},
    {{ name = "brand", kind = "categorical" }},
    {{ name = "price", kind = "numeric" }},
]

[users]
path = "users.parquet"
features = [
    {{ name = "age_group", kind = "categorical" }},
    {{ name = "region", kind = "categorical" }},
]

[features]
context = ["device"]

[split]
test_days = 14
valid_days = 14
ranker_windows = 2

[limits]
min_users = 0  # the catalogue is what is listed, taken or not

[train]
seed = {seed}

[train.retrieval]
model = "sasrec"
dim = {dim}
layers = 2
history_length = 50

[train.ranker]
model = "deepfm"
"""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """N items, the n-th with the id that `item_ids` gives it.

    vectors: float32 [N, d], unit length.  cluster: int64 [N].  popularity: float64 [N], expected share.
    """

    vectors: NDArray[np.float32]
    cluster: NDArray[np.int64]
    popularity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cluster)


def make_catalogue(num_items: int, rng: np.random.Generator) -> Catalogue:
    """Clusters with a power-law spectrum: few dimensions tell most items apart."""
    dim = DIM if num_items < LARGE else DIM_OF_LARGE
    num_clusters = int(np.clip(num_items // ITEMS_PER_CLUSTER, 1, MAX_CLUSTERS))
    spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    centres = rng.standard_normal((num_clusters, dim), dtype=np.float32) * spectrum
    sizes = np.sqrt(rng.zipf(1.5, num_clusters).clip(max=50))
    cluster = rng.choice(num_clusters, num_items, p=sizes / sizes.sum())
    vectors = np.empty((num_items, dim), np.float32)
    for begin in range(0, num_items, BLOCK):
        own = cluster[begin : begin + BLOCK]
        drawn = rng.standard_normal((len(own), dim), dtype=np.float32)
        drawn *= NOISE * spectrum
        drawn += centres[own]
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        vectors[begin : begin + BLOCK] = drawn
    weights = (1.0 + rng.permutation(num_items)) ** -POPULARITY_POWER
    return Catalogue(vectors, cluster, weights / weights.sum())


def write_shop(folder: Path, catalogue: Catalogue, num_users: int, seed: int, rng: np.random.Generator) -> Path:
    """Write items.parquet, users.parquet, interactions.parquet and shortlist.toml; returns the path of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_items(catalogue, rng), folder / "items.parquet")
    pq.write_table(_users(num_users, rng), folder / "users.parquet")
    pq.write_table(_interactions(catalogue, num_users, rng), folder / "interactions.parquet")
    config = folder / "shortlist.toml"
    text = CONFIG.format(num_items=len(catalogue), num_users=num_users, seed=seed, dim=catalogue.vectors.shape[1])
    config.write_text(text, "utf-8")
    return config


def item_ids(numbers: NDArray[np.int64]) -> pa.Array:
    """Eight digits each."""
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")


def user_ids(numbers: NDArray[np.int64]) -> pa.Array:
    return pc.binary_join_element_wise("user", pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 6, "0"), "-")


def _items(catalogue: Catalogue, rng: np.random.Generator) -> pa.Table:
    """A cluster has a category of its own, which most of its items have, and twenty brands."""
    count, cluster = len(catalogue), catalogue.cluster
    ids = item_ids(np.arange(count))
    category = np.where(rng.random(count) < 0.85, cluster, rng.integers(0, NUM_CATEGORIES, count)) % NUM_CATEGORIES
    brand = _named("brand", (7 * cluster + rng.integers(0, 20, count)) % NUM_BRANDS)
    price = np.exp(rng.normal(3.0 + 0.5 * np.sin(cluster), 0.5)).round(2)
    return pa.table(
        {
            "item_id": ids,
            "title": pc.binary_join_element_wise(brand, ids, ", article "),
            "category": _named("category", category),
            "brand": brand,
            "price": price,
        }
    )


def _users(num_users: int, rng: np.random.Generator) -> pa.Table:
    """One of ten has not told their age."""
    age = rng.integers(0, len(AGE_GROUPS), num_users)
    told = pa.array(age, mask=rng.random(num_users) < 0.1)
    return pa.table(
        {
            "user_id": user_ids(np.arange(num_users)),
            "age_group": pc.take(pa.array(AGE_GROUPS), told),
            "region": pc.take(pa.array(REGIONS), pa.array(rng.integers(0, len(REGIONS), num_users))),
        }
    )


def _interactions(catalogue: Catalogue, num_users: int, rng: np.random.Generator) -> pa.Table:
    lengths = np.exp(rng.normal(3.85, 0.75, num_users)).round().clip(MIN_HISTORY, MAX_HISTORY).astype(np.int64)
    users = np.repeat(np.arange(num_users), lengths)
    return pa.table(
        {
            "user_id": user_ids(users),
            "item_id": item_ids(_taken(catalogue, users, num_users, rng)),
            "time_ms": END_MS - 1 - (rng.random(len(users)) * DAYS * DAY_MS).astype(np.int64),
            "device": pc.take(pa.array(DEVICES), pa.array(rng.choice(len(DEVICES), len(users), p=[0.6, 0.3, 0.1]))),
        }
    )


def _taken(
    catalogue: Catalogue, users: NDArray[np.int64], num_users: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The item of each interaction: from one of the user's two to four clusters, the first the dearest, or from
    anywhere; within them by popularity."""
    by_cluster = np.argsort(catalogue.cluster, kind="stable")
    reach = np.concatenate([[0.0], np.cumsum(catalogue.popularity[by_cluster])])
    bounds = np.searchsorted(catalogue.cluster[by_cluster], np.arange(catalogue.cluster.max() + 2))
    favourites = catalogue.cluster[rng.integers(0, len(catalogue), (num_users, 4))]  # a large one is chosen more often
    counts = rng.integers(2, 5, num_users)
    place = (rng.random(len(users)) ** 1.5 * counts[users]).astype(np.int64)
    chosen = favourites[users, place]
    at_home = rng.random(len(users)) < FAVOURITE_SHARE
    low = np.where(at_home, reach[bounds[chosen]], 0.0)
    high = np.where(at_home, reach[bounds[chosen + 1]], reach[-1])
    drawn = low + rng.random(len(users)) * (high - low)
    found = np.searchsorted(reach, drawn, side="right") - 1
    taken: NDArray[np.int64] = by_cluster[np.clip(found, 0, len(by_cluster) - 1)]
    return taken


def _named(word: str, numbers: NDArray[np.int64]) -> pa.Array:
    return pc.binary_join_element_wise(word, pa.array(numbers).cast(pa.string()), " ")
