"""A small shop whose structure is planted, so that what a model should find is known.

300 users, 400 items in 12 categories, about 15,000 purchases in 120 days from 2024-01-01. Every basket has one time,
and its lines are sorted by item id, as in real exports: a model must not learn that order.

- Favourites: a user has 2 or 3 favourite categories; most of what they buy is from those. With a row in the users
  table, `age_group` is that of the first favourite: "age0" to "age3" is its number modulo 4.
- Rebuys: a user has 6 items of the favourite categories that come again and again (about 40 % of the lines).
- Partners: up to 40 pairs of different categories. Who buys A has its partner B in the next basket with probability
  0.8, and B is bought in no other way. About 12 % of the lines are an A.
- Popular items: 10 items that everyone buys now and then (about 15 % of the lines).
- 5 items sold have no row in the items table; every second user (an odd number) has none in the users table.
- Item i has category i modulo 12, and its price tells nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUM_USERS, NUM_ITEMS, NUM_CATEGORIES, NUM_DAYS = 300, 400, 12, 120
NUM_PAIRS, NUM_POPULAR, NUM_REBUYS, NUM_WITHOUT_ROW = 40, 10, 6, 5
PARTNER_SHARE = 0.8
START_MS = 1_704_067_200_000  # 2024-01-01 UTC
DAY_MS = 86_400_000

CONFIG = """\
[interactions]
path = "interactions.parquet"
timestamp = "time"
value = "price"
context = ["basket", "store"]

[items]
path = "items.parquet"
returned = ["title", "category", "price"]
filterable = ["category", "brand"]
affinity = ["category"]
features = [
    { name = "category", kind = "categorical" },
    { name = "brand", kind = "categorical" },
    { name = "price", kind = "numeric" },
]

[users]
path = "users.parquet"
features = [{ name = "age_group", kind = "categorical" }, { name = "household", kind = "numeric" }]

[features]
context = ["store"]

[events]
types = ["click", "view"]

[split]
test_days = 14
valid_days = 14
ranker_windows = 3
"""


@dataclass(frozen=True, slots=True)
class PlantedTruth:
    """What was planted, by external ids.  config: the shortlist.toml.  num_interactions: lines written."""

    config: Path
    num_interactions: int
    categories: dict[str, str]  # of every item
    favourites: dict[str, tuple[str, ...]]  # categories of every user
    rebuys: dict[str, tuple[str, ...]]  # items of every user
    partners: dict[str, str]  # A -> B
    popular: tuple[str, ...]
    items_without_row: tuple[str, ...]
    users_without_row: tuple[str, ...]


def write_planted(folder: Path, seed: int = 0) -> PlantedTruth:
    """Write interactions.parquet, items.parquet, users.parquet and shortlist.toml into `folder`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    shop = _Shop(rng)
    lines = [line for user in range(NUM_USERS) for line in shop.visits(user)]
    lines.sort(key=lambda line: (line["time_ms"], line["user_id"], line["item_id"]))
    times = pa.array([line.pop("time_ms") for line in lines], pa.timestamp("ms"))
    pq.write_table(pa.Table.from_pylist(lines).append_column("time", times), folder / "interactions.parquet")
    without_row = tuple(item_id(item) for item in shop.plain[:NUM_WITHOUT_ROW])
    pq.write_table(pa.Table.from_pylist(shop.item_rows(without_row)), folder / "items.parquet")
    pq.write_table(pa.Table.from_pylist(shop.user_rows()), folder / "users.parquet")
    (folder / "shortlist.toml").write_text(CONFIG, "utf-8")
    users = [user_id(user) for user in range(NUM_USERS)]
    return PlantedTruth(
        config=folder / "shortlist.toml",
        num_interactions=len(lines),
        categories={item_id(item): category(item) for item in range(NUM_ITEMS)},
        favourites={user: tuple(map(category, chosen)) for user, chosen in zip(users, shop.favourites, strict=True)},
        rebuys={user: tuple(map(item_id, items)) for user, items in zip(users, shop.rebuys, strict=True)},
        partners={item_id(a): item_id(b) for a, b in shop.partners.items()},
        popular=tuple(map(item_id, shop.popular)),
        items_without_row=without_row,
        users_without_row=tuple(users[1::2]),
    )


def user_id(user: int) -> str:
    return f"u{user:03d}"


def item_id(item: int) -> str:
    return f"i{item:03d}"


def category(item: int) -> str:
    """Of an item, or of a category's own number."""
    return f"category{item % NUM_CATEGORIES:02d}"


class _Shop:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        shuffled = rng.permutation(NUM_ITEMS).tolist()
        self.popular = shuffled[:NUM_POPULAR]
        firsts = shuffled[NUM_POPULAR : NUM_POPULAR + NUM_PAIRS]
        seconds = shuffled[NUM_POPULAR + NUM_PAIRS : NUM_POPULAR + 2 * NUM_PAIRS]
        self.partners = {a: b for a, b in zip(firsts, seconds, strict=True) if a % NUM_CATEGORIES != b % NUM_CATEGORIES}
        self.plain = shuffled[NUM_POPULAR + 2 * NUM_PAIRS :]
        self.favourites = [
            rng.choice(NUM_CATEGORIES, rng.integers(2, 4), replace=False).tolist() for _ in range(NUM_USERS)
        ]
        self.rebuys = [rng.choice(self._of(chosen), NUM_REBUYS, replace=False).tolist() for chosen in self.favourites]
        self.liked = [self._of(chosen) for chosen in self.favourites]
        self.firsts = list(self.partners)
        self.baskets = 0

    def visits(self, user: int) -> list[dict[str, object]]:
        """All lines of one user: baskets at increasing times."""
        lines: list[dict[str, object]] = []
        due: set[int] = set()
        count = int(self.rng.integers(9, 16))
        # Whole seconds: many users, few equal times, as in the real data.
        seconds = np.sort(self.rng.choice(NUM_DAYS * 86_400, count, replace=False))
        for second in seconds.tolist():
            basket = {self._pick(user) for _ in range(self.rng.integers(2, 7))}
            basket |= {item for item in sorted(due) if self.rng.random() < PARTNER_SHARE}
            due = {self.partners[item] for item in sorted(basket) if item in self.partners}
            lines += self._lines(user, START_MS + second * 1000, sorted(basket))
        return lines

    def item_rows(self, without_row: tuple[str, ...]) -> list[dict[str, object]]:
        rows = [
            {"item_id": item_id(i), "title": f"Item {i}", "category": category(i), "brand": "own" if i % 3 else "other"}
            for i in range(NUM_ITEMS)
        ]
        return [row | {"price": _price(i)} for i, row in enumerate(rows) if row["item_id"] not in without_row]

    def user_rows(self) -> list[dict[str, object]]:
        return [
            {"user_id": user_id(user), "age_group": f"age{self.favourites[user][0] % 4}", "household": 1.0 + user % 5}
            for user in range(0, NUM_USERS, 2)
        ]

    def _pick(self, user: int) -> int:
        pools = (self.rebuys[user], self.liked[user], self.popular, self.firsts, self.plain)
        pool = pools[np.searchsorted((0.4, 0.65, 0.8, 0.92), self.rng.random(), side="right")]
        return pool[self.rng.integers(len(pool))]

    def _of(self, categories: list[int]) -> list[int]:
        return [item for item in self.plain if item % NUM_CATEGORIES in categories]

    def _lines(self, user: int, time_ms: int, basket: list[int]) -> list[dict[str, object]]:
        self.baskets += 1
        common = {"user_id": user_id(user), "time_ms": time_ms, "basket": self.baskets, "store": f"s{user % 4}"}
        return [common | {"item_id": item_id(item), "price": _price(item)} for item in basket]


def _price(item: int) -> float:
    return 1.0 + item % 17
