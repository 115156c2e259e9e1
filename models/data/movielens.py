"""A folder of MovieLens becomes interactions.parquet, items.parquet, users.parquet and a shortlist.toml."""

from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from models.data.errors import SourceError
from models.data.movielens_files import MovieLens, read_movielens
from models.data.source_files import write_table, write_template

Protocol = Literal["leave-last-out", "random", "time"]
MIN_RATING = 3  # of the random protocol
_AGE_GROUPS = 7  # 1M has groups by their youngest age, 100K years

LICENCE = (
    "MovieLens is for research. GroupLens, University of Minnesota, forbids to redistribute it, and to profit from it "
    "without permission: keep it, and what is made of it, out of repositories, packages and images."
)

_HEAD = """\
# MovieLens, written by `shortlist movielens`. For research; not to be redistributed.

[interactions]
path = "interactions.parquet"
value = "rating"
default_event_type = "rating"
"""

_TIMES = """\
timestamp = "timestamp"
time_unit = "s"
"""

_ITEMS = """
[items]
path = "items.parquet"
features = [
    { name = "year", kind = "numeric" },
    { name = "genres", kind = "multi", separator = "|" },
]
returned = ["title", "year", "genres"]
filterable = ["year"]
"""

# age is a number of years in 100K, one of seven groups in 1M
_USERS = """
[users]
path = "users.parquet"
features = [
    {{ name = "age", kind = "{age}" }},
    {{ name = "gender", kind = "categorical" }},
    {{ name = "occupation", kind = "categorical" }},
]
"""

_EVENTS = """
[events]
seen = ["rating"]

[state]
history_limit = 4096
"""

_SPLITS: dict[Protocol, str] = {
    "leave-last-out": """
# As the papers on sequences: each user's last rating is the test, the one before it validation, any item counts.
[split]
kind = "leave-last-out"
ranker_windows = 1 # ratings before these, for the ranking model; 0 with model = "none" in [train.ranker]
seed = 0 # draws among ratings of one second

[limits]
min_users = 0 # keep all items
""",
    "random": """
# As RecBole: 8:1:1 of each user's ratings of 3 and more. No window is left for a ranking model.
[split]
kind = "random"
valid_share = 0.1
test_share = 0.1
seed = 0

[limits]
min_users = 0 # keep all items

[train.ranker]
model = "none"
""",
    "time": """
# The last four weeks are the test, the four before them validation, four times four weeks for the ranking model.
[split]
kind = "time"
test_days = 28
valid_days = 28
ranker_windows = 4
""",
}


class Written(NamedTuple):
    """config: path of shortlist.toml.  kept: it is one that someone edited, for whatever protocol."""

    config: Path
    ratings: int
    movies: int
    users: int
    kept: bool


def write_movielens(folder: Path, to: Path, protocol: Protocol) -> Written:
    """Read the set in `folder` and write the files into `to`. A shortlist.toml that someone has edited stays.

    Movies are those with a rating that the protocol keeps. Raises SourceError naming the file and the line.
    """
    found = read_movielens(folder)
    if protocol != "random" and "timestamp" not in found.ratings.column_names:
        raise SourceError(f"{folder}: the ratings have no timestamp; only --protocol random does without")
    kept = found.ratings.filter(pc.greater_equal(found.ratings["rating"], MIN_RATING if protocol == "random" else 0))
    if not len(kept):
        raise SourceError(f"{folder}: no rating is {MIN_RATING} or more")
    movies = found.movies.filter(pc.is_in(found.movies["item_id"], pc.unique(kept["item_id"])))
    to.mkdir(parents=True, exist_ok=True)
    write_table(found.ratings, to / "interactions.parquet")
    write_table(movies, to / "items.parquet")
    if found.users is not None:
        write_table(found.users, to / "users.parquet")
    config = to / "shortlist.toml"
    written = write_template(config, _configuration(found, protocol).encode())
    num_users = pc.count_distinct(kept["user_id"]).as_py()
    return Written(config, len(kept), len(movies), num_users, not written)


def _configuration(found: MovieLens, protocol: Protocol) -> str:
    head = _HEAD
    if protocol == "random":
        head += f"min_value = {MIN_RATING}\n"
    else:
        head += _TIMES
    users = "" if found.users is None else _USERS.format(age=_kind_of_age(found.users))
    return head + _ITEMS + users + _EVENTS + _SPLITS[protocol]


def _kind_of_age(users: pa.Table) -> str:
    return "categorical" if pc.count_distinct(users["age"]).as_py() <= _AGE_GROUPS else "numeric"
