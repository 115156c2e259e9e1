"""MovieLens as GroupLens publishes it: u.data (100K), ratings.dat (1M, 10M), ratings.csv (20M and later), or Parquet.

Every reader checks what it reads, and raises SourceError naming the file and the line.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from models.data.config_errors import suggestion
from models.data.errors import SourceError

_RATING = {"user_id": pa.int64(), "item_id": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
_HEADER = {"userId": "user_id", "movieId": "item_id"}  # other names of the same columns
_MOVIE = {"item_id": pa.int64(), "title": pa.string(), "year": pa.int64(), "genres": pa.string()}
_USER = {"user_id": pa.int64(), "age": pa.int64(), **dict.fromkeys(("gender", "occupation", "zip"), pa.string())}
_NO_GENRE = ("", "unknown", "(no genres listed)")
_LATEST_S = 4_102_444_800  # 2100-01-01


class MovieLens(NamedTuple):
    """ratings: user_id, item_id, rating, timestamp in seconds, which some copies lack.  movies: item_id, title, year
    and genres with | between them, null where unknown.  users: user_id, age, gender, occupation, zip; None where a set
    has no such file."""

    ratings: pa.Table
    movies: pa.Table
    users: pa.Table | None


def read_movielens(folder: Path) -> MovieLens:
    """The set that the folder holds, known by the name of its file of ratings."""
    for name, read in _FORMATS.items():
        if (folder / name).is_file():
            return read(folder)
    raise SourceError(
        f"{folder}: has none of {', '.join(_FORMATS)}; name the folder that an archive of MovieLens unpacks to"
    )


def _read_100k(folder: Path) -> MovieLens:
    genres = [name for _, (name, _) in _fields(folder / "u.genre", "|", 2)]
    path, users = folder / "u.item", folder / "u.user"
    movies = []
    for where, fields in _fields(path, "|", 5 + len(genres)):
        flags = zip(genres, fields[5:], strict=True)
        movies.append((where, [fields[0], fields[1], "|".join(name for name, flag in flags if flag == "1")]))
    ratings = _ratings(folder / "u.data", "\t", list(_RATING))
    return MovieLens(ratings, _movies(path, movies), _users(users, _fields(users, "|", 5)))


def _read_dat(folder: Path) -> MovieLens:
    """Fields are separated by "::": for a reader that knows one character, an empty column between two of them."""
    columns = [name for column in _RATING for name in (column, f"after_{column}")][:-1]
    path, users = folder / "movies.dat", folder / "users.dat"
    people = ((where, [user, age, gender, *rest]) for where, (user, gender, age, *rest) in _fields(users, "::", 5))
    return MovieLens(
        _ratings(folder / "ratings.dat", ":", columns),
        _movies(path, _fields(path, "::", 3)),
        _users(users, people) if users.is_file() else None,  # 10M has none
    )


def _read_csv(folder: Path) -> MovieLens:
    path = folder / "movies.csv"
    reader = csv.reader(_lines(path))
    if next(reader) != ["movieId", "title", "genres"]:
        raise SourceError(f"{path}: line 1: the columns movieId, title, genres are expected")
    movies = []
    for fields in filter(None, reader):
        where = f"line {reader.line_num}"
        _require_fields(path, where, fields, ",", 3)
        movies.append((where, fields))
    return MovieLens(_ratings(folder / "ratings.csv", ",", None), _movies(path, movies), None)


def _read_parquet(folder: Path) -> MovieLens:
    path, users = folder / "movies.parquet", folder / "users.parquet"
    movies = _rows(_parquet(path, ["item_id", "title", "genres"]))
    people = _users(users, _rows(_parquet(users, list(_USER)))) if users.is_file() else None
    return MovieLens(_parquet_ratings(folder / "ratings.parquet"), _movies(path, movies), people)


_FORMATS: dict[str, Callable[[Path], MovieLens]] = {
    "u.data": _read_100k,
    "ratings.dat": _read_dat,
    "ratings.csv": _read_csv,
    "ratings.parquet": _read_parquet,
}


def _ratings(path: Path, delimiter: str, columns: list[str] | None) -> pa.Table:
    """columns: their names in a file without a header line."""
    try:
        table = pa.csv.read_csv(
            path,
            pa.csv.ReadOptions(use_threads=False, column_names=columns),  # threads would forget the line's number
            pa.csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=_RATING | dict.fromkeys(_HEADER, pa.int64())),
        )
    except pa.ArrowInvalid as error:
        row = re.search(r"Row #(\d+): (.*)", str(error), re.DOTALL)
        told = f"line {row.group(1)}: {row.group(2)}" if row else str(error)
        raise SourceError(f"{path}: {told}") from error
    table = table.rename_columns([_HEADER.get(name, name) for name in table.column_names])
    _require_columns(path, table.column_names, list(_RATING))
    table = table.select(list(_RATING))
    _require_good(path, table, "line", 1 if columns else 2)
    return table


def _parquet_ratings(path: Path) -> pa.Table:
    table = _parquet(path, ["user_id", "item_id", "rating"], "timestamp")
    for name in table.column_names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise SourceError(f"{path}: column {name!r} is {kind}; numbers are expected")
    _require_good(path, table, "row", 1)
    return table.cast(pa.schema([(name, _RATING[name]) for name in table.column_names]))


def _require_good(path: Path, ratings: pa.Table, what: str, first: int) -> None:
    if not len(ratings):
        raise SourceError(f"{path}: has no ratings")
    bad = np.zeros(len(ratings), np.bool_)
    bounds = {"user_id": (1, np.inf), "item_id": (1, np.inf), "rating": (0.5, 5), "timestamp": (0, _LATEST_S)}
    for name in ratings.column_names:
        low, high = bounds[name]
        values = ratings[name].to_numpy()  # NaN where it is null
        bad |= ~((values >= low) & (values <= high))
    if bad.any():
        row = int(bad.argmax())
        found = ", ".join(f"{name} {value}" for name, value in ratings.slice(row, 1).to_pylist()[0].items())
        expected = "ids from 1, a rating of 0.5 to 5 and a time in seconds are expected"
        raise SourceError(f"{path}: {what} {row + first}: {expected}, not {found}")


def _movies(path: Path, rows: Iterable[tuple[str, list[str]]]) -> pa.Table:
    """rows: where they stand, and item id, title, genres."""
    movies: dict[int, tuple[object, ...]] = {}
    for where, (item, title, genres) in rows:
        number = _whole(path, where, item)
        if number in movies:
            raise SourceError(f"{path}: {where}: movie {number} was there before")
        year = re.search(r"\((\d{4})\D*(?:\d{4})?\)\s*$", title)  # of a series the first: (1999-2004)
        movies[number] = number, title, int(year.group(1)) if year else None, None if genres in _NO_GENRE else genres
    return _table(movies, _MOVIE)


def _users(path: Path, rows: Iterable[tuple[str, list[str]]]) -> pa.Table:
    """rows: where they stand, and user id, age, gender, occupation, zip."""
    users: dict[int, tuple[object, ...]] = {}
    for where, (user, age, *rest) in rows:
        number = _whole(path, where, user)
        if number in users:
            raise SourceError(f"{path}: {where}: user {number} was there before")
        users[number] = number, _whole(path, where, age), *rest
    return _table(users, _USER)


def _table(rows: dict[int, tuple[object, ...]], types: dict[str, pa.DataType]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(types, row, strict=True)) for row in rows.values()], pa.schema(types))


def _whole(path: Path, where: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise SourceError(f"{path}: {where}: a whole number is expected, not {text!r}")
    return int(text)


def _fields(path: Path, separator: str, count: int) -> Iterator[tuple[str, list[str]]]:
    """Where each line stands, and its fields; empty lines are left out."""
    for number, line in enumerate(_lines(path), 1):
        if line:
            fields = line.split(separator)
            _require_fields(path, f"line {number}", fields, separator, count)
            yield f"line {number}", fields


def _rows(table: pa.Table) -> Iterator[tuple[str, list[str]]]:
    """Where each row stands, and its values as text; empty for a missing one."""
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", ["" if value is None else str(value) for value in row.values()]


def _require_fields(path: Path, where: str, fields: list[str], separator: str, count: int) -> None:
    if len(fields) != count:
        expected = f"{count} fields with {separator!r} between them are expected"
        raise SourceError(f"{path}: {where}: {expected}, not {len(fields)}")


def _lines(path: Path) -> Iterator[str]:
    """100K and 1M are Latin-1, later sets UTF-8."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: is missing beside the ratings; unpack the whole archive") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return (line.rstrip("\r") for line in text.split("\n"))


def _parquet(path: Path, columns: list[str], optional: str | None = None) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: is missing beside the ratings") from error
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    _require_columns(path, table.column_names, columns)
    return table.select([*columns, *([optional] if optional in table.column_names else [])])


def _require_columns(path: Path, found: list[str], columns: list[str]) -> None:
    for column in columns:
        if column not in found:
            raise SourceError(f"{path}: no column {column!r}{suggestion(column, found)}")
