"""Items and users: which are kept, their indices, and their columns encoded in that order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from models.contract.columns import BytesColumn
from models.contract.ids import check_collisions, hash_ids
from models.data.config import Config
from models.data.edges import Edges, ids_of, index_edges, read_edges
from models.data.encode import Encoded, encode_features, positions, with_ids
from models.data.errors import BadRowsError, SourceError
from models.data.log import Log
from models.data.report import SourceReport
from models.data.rows import Arranged, arrange, count_users, listed_ids, mask, read_rows, user_activity


@dataclass(frozen=True, slots=True)
class Items:
    """ids: in the order of their hashes, uint64 [N].  fields, filters: as in `Dataset`."""

    ids: list[str]
    hashes: NDArray[np.uint64]
    arranged: Arranged
    encoded: Encoded
    fields: dict[str, BytesColumn]
    filters: dict[str, tuple[NDArray[np.int32], list[Any]]]
    edges: Edges
    source: SourceReport | None
    num_sold: int
    num_left_out: int  # of those sold
    num_listed_left_out: int  # in the items table only


@dataclass(frozen=True, slots=True)
class Users:
    """ids: sorted."""

    ids: list[str]
    arranged: Arranged
    encoded: Encoded
    social: Edges
    source: SourceReport | None
    num_active: int


def make_items(connection: Backend, config: Config, log: Log) -> Items:
    """Keep the items that enough users met before the test split. Raises DataError."""
    section = config.items
    features = section.features if section else []
    extra = list(dict.fromkeys([*section.returned, *section.filterable])) if section else []
    rows = None
    if section and section.path:
        rows = read_rows(connection, config, section.path, section.item_id, features, extra)
    users = count_users(connection, log)
    listed = set(listed_ids(connection, rows))
    kept = [item for item in users.keys() | listed if users.get(item, 0) >= config.limits.min_users]
    if not kept:
        raise BadRowsError(f"no item has {config.limits.min_users} users before the test split; lower limits.min_users")
    ids, hashes = _by_hash(kept)
    arranged = arrange(connection, ids, rows)
    edges = config.item_edges
    read = (
        read_edges(connection, edges.path, (edges.item_id, edges.other), config.limits.max_bad_share) if edges else None
    )
    values = {name: arranged.columns[f"extra_{i}"].combine_chunks() for i, name in enumerate(extra)}
    known = mask([users.get(item, 0) > 0 for item in ids])
    encoded = encode_features(arranged.columns, features, known)
    if section and section.id_feature:
        encoded = with_ids(encoded, "item_id", ids, known)
    return Items(
        ids=ids,
        hashes=hashes,
        arranged=arranged,
        encoded=encoded,
        fields={name: _to_json(values[name]) for name in section.returned} if section else {},
        filters={name: _to_filter(values[name], name) for name in section.filterable} if section else {},
        edges=index_edges(connection, read, arranged.index),
        source=rows.source if rows else None,
        num_sold=len(users),
        num_left_out=len(users.keys() - set(ids)),
        num_listed_left_out=len(listed - users.keys() - set(ids)),
    )


def make_users(connection: Backend, config: Config, log: Log) -> Users:
    """Keep every user that the log, the users table or an edge has. Raises DataError."""
    section = config.users
    features = section.features if section else []
    rows = None
    if section and section.path:
        rows = read_rows(connection, config, section.path, section.user_id, features, [])
    active = user_activity(connection, log)
    social = config.social
    edges = (
        read_edges(connection, social.path, (social.user_id, social.friend), config.limits.max_bad_share)
        if social
        else None
    )
    ids = sorted({*active, *listed_ids(connection, rows), *ids_of(connection, edges)})
    arranged = arrange(connection, ids, rows)
    known = mask([active.get(user, False) for user in ids])
    encoded = encode_features(arranged.columns, features, known)
    if section and section.id_feature:
        encoded = with_ids(encoded, "user_id", ids, known)
    return Users(
        ids=ids,
        arranged=arranged,
        encoded=encoded,
        social=index_edges(connection, edges, arranged.index),
        source=rows.source if rows else None,
        num_active=len(active),
    )


def _by_hash(ids: list[str]) -> tuple[list[str], NDArray[np.uint64]]:
    hashes = hash_ids(ids)
    try:
        check_collisions(ids, hashes)
    except ValueError as error:
        raise SourceError(f"items: {error}") from error
    order = np.argsort(hashes)
    return [ids[i] for i in order.tolist()], hashes[order]


def _to_json(values: pa.Array) -> BytesColumn:
    """Each value as JSON: numbers, booleans, strings and lists as they are, times as ISO 8601, NaN as null."""
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    return BytesColumn.of(orjson.dumps(value, default=str) for value in values.to_pylist())


def _to_filter(values: pa.Array, name: str) -> tuple[NDArray[np.int32], list[Any]]:
    """Codes int32 [N], -1 missing, and the sorted values: strings, numbers or booleans."""
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = pc.cast(values, pa.float64())
        values = pc.if_else(pc.is_finite(values), values, None)
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        values = values.cast(pa.string())
    elif not (
        pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    ):
        raise SourceError(f"items.filterable: column {name!r} is {kind}; text, numbers and booleans can be filtered on")
    vocabulary = sorted(pc.unique(values).drop_null().to_pylist())
    return positions(values, vocabulary), vocabulary
