"""MovieLens's published formats, with invented films and people: never a line of the real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Prepare
from typer.testing import CliRunner

from cli.main import app
from models.data.config import load_config
from models.data.errors import SourceError
from models.data.movielens import write_movielens

# user, film, rating, second; film 5 is rated by nobody, film 4 only with 2
RATINGS = [(u, 1 + (u + i) % 3, 3 + (u + i) % 3, 1_000_000_000 + 86_400 * i + u) for u in range(1, 5) for i in range(6)]
RATINGS += [(1, 4, 2, 1_000_600_000)]
FILMS = [
    (1, "Ångström, der Weg (1950)", ["Comedy", "Drama"]),
    (2, "The Tin Owl: Part Two (1977)", ["Drama"]),
    (3, "Nameless", []),
    (4, 'A, B and "C" (1999)', ["Comedy"]),
    (5, "Never Seen (2001)", ["Drama"]),
]
PEOPLE = [
    (1, 31, "F", "miller", "0A1"),
    (2, 44, "M", "none", "00220"),
    (3, 19, "F", "weaver", "7"),
    (4, 8, "M", "x", "9"),
]


def lines(folder: Path, name: str, rows: list[str], encoding: str = "utf-8") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes("".join(f"{row}\n" for row in rows).encode(encoding))


def write_100k(folder: Path) -> None:
    lines(folder, "u.data", ["\t".join(map(str, row)) for row in RATINGS])
    lines(folder, "u.genre", ["unknown|0", "Comedy|1", "Drama|2", ""])
    flags = [
        "|".join(str(int(genre in (genres or ["unknown"]))) for genre in ("unknown", "Comedy", "Drama"))
        for _, _, genres in FILMS
    ]
    films = [f"{i}|{title}|01-Jan-1990||http://films/{i}|{f}" for (i, title, _), f in zip(FILMS, flags, strict=True)]
    lines(folder, "u.item", [*films, ""], "latin-1")
    lines(folder, "u.user", ["|".join(map(str, person)) for person in PEOPLE])


def write_1m(folder: Path) -> None:
    lines(folder, "ratings.dat", ["::".join(map(str, row)) for row in RATINGS])
    films = [f"{i}::{title}::{'|'.join(genres) or '(no genres listed)'}" for i, title, genres in FILMS]
    lines(folder, "movies.dat", films, "latin-1")
    lines(folder, "users.dat", [f"{user}::{sex}::{age}::{work}::{code}" for user, age, sex, work, code in PEOPLE])


def write_10m(folder: Path) -> None:
    """As 1M, but UTF-8, halves of stars, no people."""
    write_1m(folder)
    (folder / "users.dat").unlink()
    text = (folder / "movies.dat").read_text("latin-1")
    (folder / "movies.dat").write_text(text, "utf-8")


def write_20m(folder: Path) -> None:
    lines(folder, "ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in RATINGS)])
    films = [
        f'{i},"{title.replace(chr(34), chr(34) * 2)}",{"|".join(genres) or "(no genres listed)"}'
        for i, title, genres in FILMS
    ]
    lines(folder, "movies.csv", ["movieId,title,genres", *films])


def write_parquet(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    columns = dict(zip(("user_id", "item_id", "rating", "timestamp"), zip(*RATINGS, strict=True), strict=True))
    pq.write_table(pa.table(columns | {"rating": pa.array(columns["rating"], pa.int8())}), folder / "ratings.parquet")
    films = [{"item_id": i, "title": title, "genres": "|".join(genres)} for i, title, genres in FILMS]
    pq.write_table(pa.Table.from_pylist(films), folder / "movies.parquet")
    names = ("user_id", "age", "gender", "occupation", "zip")
    people = [dict(zip(names, map(str, person), strict=True)) for person in PEOPLE]
    pq.write_table(pa.Table.from_pylist(people), folder / "users.parquet")


FORMATS: dict[str, Callable[[Path], None]] = {
    "100k": write_100k,
    "1m": write_1m,
    "10m": write_10m,
    "20m": write_20m,
    "parquet": write_parquet,
}


def written(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


@pytest.mark.parametrize("name", FORMATS)
def test_every_published_format_gives_the_same_tables(tmp_path: Path, name: str) -> None:
    """The year comes from the title; no genre is null; a film that nobody rated is left out."""
    FORMATS[name](tmp_path / "ml")
    told = write_movielens(tmp_path / "ml", tmp_path / "out", "leave-last-out")
    assert (told.ratings, told.movies, told.users, told.kept) == (25, 4, 4, False)
    rows = [tuple(row.values()) for row in written(tmp_path / "out/interactions.parquet")]
    assert rows == RATINGS
    years = [1950, 1977, None, 1999]
    assert written(tmp_path / "out/items.parquet") == [
        {"item_id": i, "title": title, "year": year, "genres": "|".join(genres) or None}
        for (i, title, genres), year in zip(FILMS[:4], years, strict=True)
    ]
    users = tmp_path / "out/users.parquet"
    assert users.exists() == (name not in ("10m", "20m"))
    if users.exists():
        assert [tuple(row.values()) for row in written(users)] == PEOPLE


@pytest.mark.parametrize(
    ("name", "protocol", "parts"), [("100k", "leave-last-out", [17, 4, 4]), ("20m", "random", [16, 4, 4])]
)
def test_what_is_written_can_be_prepared(
    tmp_path: Path, prepared: Prepare, name: str, protocol: Any, parts: list[int]
) -> None:
    """Random leaves out the rating of 2, and its film; of six ratings each user has one for validation and the test."""
    FORMATS[name](tmp_path / "ml")
    dataset = prepared(load_config(write_movielens(tmp_path / "ml", tmp_path / "out", protocol).config))
    assert np.bincount(dataset.part).tolist() == parts
    assert dataset.num_items == (3 if protocol == "random" else 4)
    assert dataset.report.items_without_row == 0
    assert dataset.schema.seen_types == ["rating"]
    assert [feature.name for feature in dataset.schema.item_features] == ["year", "genres"]
    assert len(dataset.schema.user_features) == (0 if name == "20m" else 3)


def test_four_weeks_windows_of_real_time(tmp_path: Path) -> None:
    write_1m(tmp_path / "ml")
    config = load_config(write_movielens(tmp_path / "ml", tmp_path / "out", "time").config)
    assert (config.split.kind, config.split.test_days, config.split.num_ranker_windows) == ("time", 28, 4)
    assert (config.log.time_unit, config.limits.min_users) == ("s", 1)


def test_ages_are_numbers_or_groups(tmp_path: Path) -> None:
    """Seven ages at most are groups, as in 1M; more are years, as in 100K."""
    write_1m(tmp_path / "ml")
    groups = load_config(write_movielens(tmp_path / "ml", tmp_path / "out", "time").config).users
    lines(tmp_path / "ml", "users.dat", [f"{i}::F::{20 + i}::1::0" for i in range(1, 9)])
    years = load_config(write_movielens(tmp_path / "ml", tmp_path / "out", "time").config).users
    assert groups is not None
    assert years is not None
    assert (groups.features[0].kind, years.features[0].kind) == ("categorical", "numeric")


def test_without_times_only_the_random_protocol(tmp_path: Path) -> None:
    write_parquet(tmp_path / "ml")
    ratings = tmp_path / "ml/ratings.parquet"
    pq.write_table(pq.read_table(ratings).drop_columns(["timestamp"]), ratings)
    with pytest.raises(SourceError, match="the ratings have no timestamp; only --protocol random does without"):
        write_movielens(tmp_path / "ml", tmp_path / "out", "time")
    assert not (tmp_path / "out").exists()
    config = load_config(write_movielens(tmp_path / "ml", tmp_path / "out", "random").config)
    assert (config.log.min_value, config.split.kind, config.train.ranker.model) == (3, "random", "none")


@pytest.mark.parametrize(
    ("write", "name", "old", "new", "sentence"),
    [
        (write_100k, "u.data", "\t3\t", "\tx\t", r"u\.data: line 2: CSV conversion error"),
        (write_100k, "u.data", "\t4\t1000000001\n", "\t4\n", r"u\.data: line 1: Expected 4 columns, got 3"),
        (
            write_1m,
            "ratings.dat",
            "4::2::4",
            "4::2::9",
            r"ratings\.dat: line 19: .*of 0\.5 to 5.*, not user_id 4, item",
        ),
        (write_1m, "ratings.dat", "4::2::4", "\n4::2::4", r"ratings\.dat: line 19: .*, not user_id None"),
        (write_20m, "ratings.csv", "\n4,2,4", "\n0,2,4", r"ratings\.csv: line 20: ids from 1"),
        (write_20m, "ratings.csv", "movieId", "movie", r"ratings\.csv: no column 'item_id'"),
        (write_100k, "u.item", "2|The", "1|The", r"u\.item: line 2: movie 1 was there before"),
        (
            write_100k,
            "u.item",
            "2|The",
            "2|x|The",
            r"u\.item: line 2: 8 fields with '\|' between .* are expected, not 9",
        ),
        (write_1m, "movies.dat", "2::The", "two::The", r"movies\.dat: line 2: a whole number is expected, not 'two'"),
        (
            write_20m,
            "movies.csv",
            "3,",
            "3,4,",
            r"movies\.csv: line 4: 3 fields with ',' between them are expected, not 4",
        ),
        (write_20m, "movies.csv", "title", "name", r"movies\.csv: line 1: the columns movieId, title, genres are"),
        (write_1m, "users.dat", "::31::", "::young::", r"users\.dat: line 1: a whole number is expected, not 'young'"),
        (write_100k, "u.user", "2|44", "1|44", r"u\.user: line 2: user 1 was there before"),
    ],
)
def test_a_damaged_line_is_named(
    tmp_path: Path, write: Callable[[Path], None], name: str, old: str, new: str, sentence: str
) -> None:
    write(tmp_path / "ml")
    text = (tmp_path / "ml" / name).read_text("latin-1")
    assert old in text
    (tmp_path / "ml" / name).write_text(text.replace(old, new, 1), "latin-1")
    with pytest.raises(SourceError, match=sentence):
        write_movielens(tmp_path / "ml", tmp_path / "out", "leave-last-out")


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("rating", [7.0] + [3.0] * 24, r"ratings\.parquet: row 1: ids from 1.*rating 7\.0"),
        ("rating", ["good"] * 25, r"ratings\.parquet: column 'rating' is string; numbers are expected"),
        ("stars", [3.0] * 25, r"ratings\.parquet: no column 'rating'"),
    ],
)
def test_a_damaged_parquet_column_is_named(tmp_path: Path, column: str, values: list[Any], sentence: str) -> None:
    write_parquet(tmp_path / "ml")
    path = tmp_path / "ml/ratings.parquet"
    pq.write_table(pq.read_table(path).set_column(2, column, pa.array(values)), path)
    with pytest.raises(SourceError, match=sentence):
        write_movielens(tmp_path / "ml", tmp_path / "out", "leave-last-out")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_100k(tmp_path / "ml")
    (tmp_path / "ml/u.genre").unlink()
    with pytest.raises(SourceError, match=r"u\.genre: is missing beside the ratings; unpack the whole archive"):
        write_movielens(tmp_path / "ml", tmp_path / "out", "leave-last-out")
    with pytest.raises(SourceError, match=r"has none of u\.data, ratings\.dat, ratings\.csv, ratings\.parquet"):
        write_movielens(tmp_path, tmp_path / "out", "leave-last-out")


def test_the_command_tells_the_licence_and_what_comes_next(tmp_path: Path) -> None:
    """An edited configuration is kept, and the command says so; the untouched one follows the protocol."""
    write_1m(tmp_path / "ml")
    words = ["movielens", str(tmp_path / "ml"), "--to", str(tmp_path / "out"), "--protocol"]
    config = tmp_path / "out/shortlist.toml"
    first = CliRunner().invoke(app, [*words, "leave-last-out"])
    assert first.exit_code == 0, first.output
    assert "25 ratings of 4 movies by 4 users" in first.output
    assert "MovieLens is for research" in first.output
    assert f"shortlist prepare --config {config}" in first.output
    assert CliRunner().invoke(app, [*words, "random"]).exit_code == 0
    assert load_config(config).split.kind == "random"
    config.write_text(config.read_text() + "\n# mine\n")
    again = CliRunner().invoke(app, [*words, "time"])
    assert "was edited and stays as it is; remove it to have it written for time" in again.output
    assert load_config(config).split.kind == "random"


def test_the_command_ends_with_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["movielens", str(tmp_path), "--to", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "has none of u.data" in result.output
