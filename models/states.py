"""Users' states as they stood at any moment of the data: what the feature store would have held then."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.contract.history import History, read_history
from models.contract.ids import hash_name
from models.contract.schema import CategoricalFeature, Schema
from models.contract.state import Features, Limits, UserState
from models.contract.state_blocks import Interactions, Names, pack_block
from models.contract.state_build import build
from models.data.dataset import Dataset


@dataclass(frozen=True, slots=True)
class UserStates:
    """Builds states from the prepared data.  shift_ms: added to all times of the states."""

    dataset: Dataset
    shift_ms: int = 0
    _offsets: NDArray[np.int64] = field(init=False)
    _type_hashes: NDArray[np.uint32] = field(init=False)
    _type_seen: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        schema = self.dataset.schema
        object.__setattr__(self, "_offsets", self.dataset.interactions.user_offsets(self.dataset.num_users))
        object.__setattr__(self, "_type_hashes", np.array([hash_name(t) for t in schema.event_types], np.uint32))
        object.__setattr__(self, "_type_seen", np.array([t in schema.seen_types for t in schema.event_types]))

    def at(self, user: int, end_ms: int, load_tag: int = 0) -> UserState:
        """The state of the user from interactions strictly earlier than end_ms, in the data's own time. Static
        features count as known just before end_ms. Raises ValueError for times outside what a state can hold."""
        rows, schema = self.dataset.interactions, self.dataset.schema
        first, last = int(self._offsets[user]), int(self._offsets[user + 1])
        last = first + int(np.searchsorted(rows.time_ms[first:last], end_ms))
        items = rows.item_index[first:last].astype(np.int64)
        types = rows.event_type[first:last]
        return build(
            rows.time_ms[first:last] + self.shift_ms,
            self.dataset.item_hashes[items],
            self._type_hashes[types],
            self.dataset.item_ids,
            items,
            self._type_seen[types],
            user_features(
                schema,
                self.dataset.user_categorical[user],
                self.dataset.user_numeric[user],
                end_ms - 1 + self.shift_ms,
            ),
            Limits.of(schema),
            load_tag,
        )

    def packed(self, start: int, stop: int, end_ms: int, load_tag: int = 0) -> list[bytes]:
        """The packed states, as of `at`, of the users from number `start` to before `stop`."""
        data, rows, schema = self.dataset, self.dataset.interactions, self.dataset.schema
        bounds = self._offsets[start : stop + 1]
        block = slice(int(bounds[0]), int(bounds[-1]))
        times = np.asarray(rows.time_ms[block])
        known = times < end_ms
        before = np.concatenate([[0], np.cumsum(known)])[bounds - bounds[0]]
        found = Interactions(
            np.diff(before),
            times[known] + self.shift_ms,
            np.asarray(rows.item_index[block])[known],
            np.asarray(rows.event_type[block])[known],
        )
        at_ms = end_ms - 1 + self.shift_ms
        kinds = zip(*(np.asarray(rows[start:stop]) for rows in (data.user_categorical, data.user_numeric)), strict=True)
        features = [user_features(schema, codes, numbers, at_ms) for codes, numbers in kinds]
        names = Names(data.item_ids.unmapped(), data.item_hashes.view(np.ndarray), self._type_hashes, self._type_seen)
        return pack_block(found, names, features, Limits.of(schema), load_tag)

    def history(self, user: int, end_ms: int) -> History:
        """The part of that state's history that the models read."""
        return read_history(self.at(user, end_ms), self.dataset.item_hashes)


def user_features(
    schema: Schema, categorical: NDArray[np.int32], numeric: NDArray[np.float32], time_ms: int
) -> Features:
    """A user's features by name, as known at time_ms: texts from the vocabularies, numbers in their own unit again.

    Missing and unknown categories are left out. A missing number is stored as the mean: prepared data does not tell
    the two apart.
    """
    features: dict[str, tuple[str | float, int]] = {}
    codes, scaled = iter(categorical.tolist()), iter(numeric.tolist())
    for feature in schema.user_features:
        if not isinstance(feature, CategoricalFeature):
            features[feature.name] = (next(scaled) * feature.std + feature.mean, time_ms)
        elif code := next(codes):
            features[feature.name] = (feature.vocabulary[code - 1], time_ms)
    return features
