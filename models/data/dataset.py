"""The prepared dataset: `prepare` writes it; training, export, load and evaluation open it with `load_dataset`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError

from models.contract.columns import BytesColumn
from models.contract.schema import MultiFeature, Schema, TextFeature, VectorFeature
from models.data.checks import (
    check_array,
    check_ascending,
    check_codes,
    check_edges,
    check_numeric,
    check_range,
    check_strings,
)
from models.data.errors import DatasetError
from models.data.impressions import COLUMNS as IMPRESSION_COLUMNS
from models.data.impressions import Impressions
from models.data.interactions import COLUMNS, Interactions
from models.data.report import Report

__all__ = ["FORMAT_VERSION", "PARTS", "Dataset", "Interactions", "Splits", "load_dataset"]

FORMAT_VERSION = 3
PARTS = ("train", "validation", "test")
SplitKind = Literal["time", "leave-last-out", "random"]


@dataclass(frozen=True, slots=True)
class Splits:
    """Where the windows start, ms UTC: [.., valid) train, [valid, test) validation, [test, end) test.

    ranker_start_ms: [ranker_start, valid) is for the ranking model; empty where there is no window for it. end_ms: the
    last time + 1. For the kinds other than "time" the interactions' times were rewritten to fit windows of a day
    (models/data/split.py).
    """

    ranker_start_ms: int
    valid_start_ms: int
    test_start_ms: int
    end_ms: int
    kind: SplitKind = "time"

    def __post_init__(self) -> None:
        if not self.ranker_start_ms <= self.valid_start_ms <= self.test_start_ms < self.end_ms:
            raise DatasetError(f"splits: times do not ascend: {self}")


def _no_edges() -> NDArray[np.int32]:
    return np.empty((0, 2), np.int32)


@dataclass(frozen=True, slots=True)
class Dataset:
    """N items in ascending order of their hashes, U users in the order of their ids, and M interactions.

    part: uint8 [M], position in PARTS.  item_hashes: uint64 [N].  item_categorical, user_categorical: int32
    [N or U, features of schema].  item_numeric, user_numeric: float32, standardised.  item_fields: JSON of each
    returned column.  item_filters: codes int32 [N] (-1 missing) and the values they stand for, for each filterable
    column.  folder: where it lies.  social_edges: int32 [E, 2], user indices.  item_edges: int32 [E, 2], item indices.
    item_multi: codes int32 [N, m] padded with 0, item_text, item_vectors_given: float32 [N, dim], each by feature.
    An edge has no direction: the smaller index is first, and each pair stands once, sorted.  impressions: None where
    none are logged.  Raises DatasetError where the parts do not fit together.
    """

    schema: Schema
    splits: Splits
    fingerprint: str
    interactions: Interactions
    part: NDArray[np.uint8]
    item_ids: BytesColumn
    item_hashes: NDArray[np.uint64]
    item_categorical: NDArray[np.int32]
    item_numeric: NDArray[np.float32]
    user_ids: BytesColumn
    user_categorical: NDArray[np.int32]
    user_numeric: NDArray[np.float32]
    item_fields: dict[str, BytesColumn]
    item_filters: dict[str, tuple[NDArray[np.int32], list[Any]]]
    report: Report
    folder: Path
    social_edges: NDArray[np.int32] = field(default_factory=_no_edges)
    item_edges: NDArray[np.int32] = field(default_factory=_no_edges)
    item_multi: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    item_text: dict[str, BytesColumn] = field(default_factory=dict)
    item_vectors_given: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    impressions: Impressions | None = None

    @property
    def num_items(self) -> int:
        return len(self.item_hashes)

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    def __post_init__(self) -> None:
        self._check_items()
        self._check_users()
        self._check_interactions()
        if self.impressions is not None:
            check_range("impressions/user_index.npy", self.impressions.user_index, 0, self.num_users)
            check_range("impressions/item_index.npy", self.impressions.item_index, 0, self.num_items)
            self.impressions.check_clicks(self.interactions)

    def _check_items(self) -> None:
        n, schema = self.num_items, self.schema
        check_array("items/hashes.npy", self.item_hashes, np.uint64, (n,))
        check_ascending("items/hashes.npy", self.item_hashes)
        check_strings("items/ids", self.item_ids, n)
        check_codes("items/categorical.npy", self.item_categorical, n, [f.size for f in schema.categorical("item")])
        check_numeric("items/numeric.npy", self.item_numeric, n, len(schema.numeric("item")))
        check_edges("items/edges.npy", self.item_edges, n)
        for multi in schema.of_items(MultiFeature):
            codes = self.item_multi[multi.name]
            check_codes(f"items/multi/{multi.name}.npy", codes, n, [multi.size] * multi.length)
        for text in schema.of_items(TextFeature):
            check_strings(f"items/text/{text.name}", self.item_text[text.name], n)
        for vector in schema.of_items(VectorFeature):
            check_numeric(f"items/vectors/{vector.name}.npy", self.item_vectors_given[vector.name], n, vector.dim)
        for name, column in self.item_fields.items():
            check_strings(f"items/fields/{name}", column, n)
        for name, (codes, values) in self.item_filters.items():
            check_array(f"items/filters/{name}.npy", codes, np.int32, (n,))
            check_range(f"items/filters/{name}.npy", codes, -1, len(values))

    def _check_users(self) -> None:
        n, schema = self.num_users, self.schema
        check_strings("users/ids", self.user_ids, n)
        check_codes("users/categorical.npy", self.user_categorical, n, [f.size for f in schema.categorical("user")])
        check_numeric("users/numeric.npy", self.user_numeric, n, len(schema.numeric("user")))
        check_edges("users/social.npy", self.social_edges, n)

    def _check_interactions(self) -> None:
        rows = self.interactions
        check_range("interactions/user_index.npy", rows.user_index, 0, self.num_users)
        check_range("interactions/item_index.npy", rows.item_index, 0, self.num_items)
        check_range("interactions/event_type.npy", rows.event_type, 0, len(self.schema.event_types))
        for feature in self.schema.context_features:
            check_range(f"interactions/context/{feature.name}.npy", rows.context[feature.name], 0, feature.size)
        check_array("interactions/part.npy", self.part, np.uint8, (len(rows),))
        check_range("interactions/part.npy", self.part, 0, len(PARTS))


def load_dataset(folder: Path) -> Dataset:
    """Open the dataset that `prepare` wrote into `folder`; arrays are memory-mapped, read-only.

    Raises DatasetError: the message names the file and what is wrong with it.
    """
    head = _read_json(folder / "dataset.json")
    if not isinstance(head, dict) or head.get("format_version") != FORMAT_VERSION:
        raise DatasetError(f"{folder / 'dataset.json'}: not format version {FORMAT_VERSION}; prepare the data again")
    try:
        return _open(folder, head)
    except DatasetError as error:
        raise DatasetError(f"{folder}: {error}") from error
    except (KeyError, TypeError, ValidationError) as error:
        raise DatasetError(f"{folder / 'dataset.json'}: incomplete ({error}); prepare the data again") from error


def _open(folder: Path, head: dict[str, Any]) -> Dataset:
    items, users, rows = folder / "items", folder / "users", folder / "interactions"
    schema = Schema.model_validate(head["schema"])
    return Dataset(
        schema=schema,
        splits=Splits(**head["splits"]),
        fingerprint=head["fingerprint"],
        interactions=Interactions(
            **{name: _load(rows / f"{name}.npy") for name in COLUMNS},
            context={name: _load(rows / "context" / f"{name}.npy") for name in head["context"]},
            numeric={name: _load(rows / "numeric" / f"{name}.npy") for name in head["numeric"]},
        ),
        part=_load(rows / "part.npy"),
        item_ids=_load_strings(items, "ids"),
        item_hashes=_load(items / "hashes.npy"),
        item_categorical=_load(items / "categorical.npy"),
        item_numeric=_load(items / "numeric.npy"),
        user_ids=_load_strings(users, "ids"),
        user_categorical=_load(users / "categorical.npy"),
        user_numeric=_load(users / "numeric.npy"),
        item_fields={name: _load_strings(items / "fields", name) for name in head["schema"]["returned"]},
        item_filters={
            name: (_load(items / "filters" / f"{name}.npy"), _read_json(items / "filters" / f"{name}.json"))
            for name in head["schema"]["filterable"]
        },
        report=Report.model_validate(head["report"]),
        folder=folder,
        social_edges=_load(users / "social.npy"),
        item_edges=_load(items / "edges.npy"),
        item_multi={f.name: _load(items / "multi" / f"{f.name}.npy") for f in schema.of_items(MultiFeature)},
        item_text={f.name: _load_strings(items / "text", f.name) for f in schema.of_items(TextFeature)},
        item_vectors_given={f.name: _load(items / "vectors" / f"{f.name}.npy") for f in schema.of_items(VectorFeature)},
        impressions=_open_impressions(folder / "impressions", head.get("impressions")),
    )


def _open_impressions(folder: Path, head: dict[str, int] | None) -> Impressions | None:
    """head: what dataset.json says of them, if there are any."""
    if head is None:
        return None
    arrays = {name: _load(folder / f"{name}.npy") for name in (*IMPRESSION_COLUMNS, "came_from")}
    return Impressions(**arrays, click_window_ms=head["click_window_ms"])


def _load(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{path.name}: cannot be read ({error}); prepare the data again") from error
    return array


def _load_strings(folder: Path, name: str) -> BytesColumn:
    return BytesColumn(_load(folder / f"{name}.data.npy"), _load(folder / f"{name}.offsets.npy"))


def _read_json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); run `shortlist prepare`") from error
