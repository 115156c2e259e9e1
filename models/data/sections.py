"""The sections of `shortlist.toml` that name files and columns, and how to split them, as frozen pydantic models."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.data.feature_columns import ColumnName, FeatureColumn, ItemFeatureColumn
from models.section import Section

EventType = Annotated[str, Field(min_length=1, max_length=64)]


class InteractionsSection(Section):
    path: str = Field(min_length=1, description="Parquet or CSV; a glob takes many; relative to shortlist.toml")
    user_id: ColumnName = "user_id"
    item_id: ColumnName = "item_id"
    timestamp: ColumnName = Field(
        "timestamp", description="a timestamp, ISO 8601 text (UTC unless it says) or a number"
    )
    time_unit: Literal["s", "ms", "us", "position"] | None = Field(
        default=None,
        description="unit of a timestamp that is a number; position: it is the place in the user's sequence, no time",
    )
    event_type: ColumnName | None = Field(default=None, description="column with the type of event")
    default_event_type: EventType = Field(
        default="purchase", description="type of rows without one, or without that column"
    )
    value: ColumnName | None = Field(
        default=None, description="a number such as money or seconds watched; missing becomes 0"
    )
    min_value: float | None = Field(default=None, description="interactions of a smaller value are left out")
    context: list[ColumnName] = Field(
        [], description="categorical columns that describe the moment: store, device, ..."
    )
    numeric: list[ColumnName] = Field(default=[], description="further numbers of an interaction; missing becomes 0")

    @model_validator(mode="after")
    def _min_value_of_a_column(self) -> Self:
        if self.min_value is not None and self.value is None:
            raise ValueError("min_value needs the column to compare: set value")
        return self


class ItemsSection(Section):
    path: str | None = Field(default=None, min_length=1, description="may be absent where only id_feature is wanted")
    item_id: ColumnName = "item_id"
    features: list[ItemFeatureColumn] = Field(default=[])
    id_feature: bool = Field(default=False, description="the id itself is a categorical feature, named item_id")
    returned: list[ColumnName] = Field(default=[], description="columns that `fields` of a request may ask for")
    filterable: list[ColumnName] = Field(default=[], description="columns that `filter` of a request may name")
    affinity: list[ColumnName] = Field(
        default=[], description="categorical features to compare with the user's history"
    )

    @model_validator(mode="after")
    def _columns_need_a_path(self) -> Self:
        _require_path(self, ["features", "returned", "filterable"])
        _require_free(self.id_feature, self.features, "item_id")
        return self


class UsersSection(Section):
    path: str | None = Field(default=None, min_length=1, description="may be absent where only id_feature is wanted")
    user_id: ColumnName = "user_id"
    features: list[FeatureColumn] = Field(default=[])
    id_feature: bool = Field(default=False, description="the id itself is a categorical feature, named user_id")

    @model_validator(mode="after")
    def _columns_need_a_path(self) -> Self:
        _require_path(self, ["features"])
        _require_free(self.id_feature, self.features, "user_id")
        return self


class SocialSection(Section):
    """Edges between users: who follows or knows whom. Direction does not matter."""

    path: str = Field(min_length=1)
    user_id: ColumnName = "user_id"
    friend: ColumnName = Field(default="friend_id", description="column with the other user's id")

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.user_id == self.friend:
            raise ValueError(f"user_id and friend are the same column {self.friend!r}")
        return self


class ItemEdgesSection(Section):
    """Edges between items: bought together, of one series. Direction does not matter."""

    path: str = Field(min_length=1)
    item_id: ColumnName = "item_id"
    other: ColumnName = Field(default="other_id", description="column with the other item's id")

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.item_id == self.other:
            raise ValueError(f"item_id and other are the same column {self.other!r}")
        return self


class ImpressionsSection(Section):
    """What was shown to whom, and at which place. What became of it is told from [interactions]."""

    path: str = Field(min_length=1)
    user_id: ColumnName = "user_id"
    item_id: ColumnName = "item_id"
    timestamp: ColumnName = "timestamp"
    time_unit: Literal["s", "ms", "us"] | None = Field(default=None, description="unit of a timestamp that is a number")
    position: ColumnName = Field(default="position", description="column with the place in the list, from 1 on")
    recommendation_id: ColumnName | None = Field(default=None, description="column that tells lists apart")
    click_window_hours: float = Field(
        default=24, gt=0, le=8784, description="an interaction at most this much later is a click on it"
    )

    @model_validator(mode="after")
    def _one_role_a_column(self) -> Self:
        columns = [self.user_id, self.item_id, self.timestamp, self.position, self.recommendation_id]
        for column in columns:
            if column is not None and columns.count(column) > 1:
                raise ValueError(f"{column!r} is the column of two things; each has one of its own")
        return self


class LabelledSection(Section):
    """A ready-made table for a ranking model, in the place of [interactions]: a row is one user, one item and what came
    of it. All parts have the same columns."""

    train: str = Field(min_length=1, description="Parquet or CSV; a glob takes many; relative to shortlist.toml")
    valid: str = Field(min_length=1, description="training stops by it")
    test: str | None = Field(default=None, min_length=1)
    valid_halved_seed: int | None = Field(
        default=None, ge=0, description="in the place of test: half of valid, drawn with this seed, is the test"
    )
    label: ColumnName = Field("label", description="0 or 1, or a number to predict with loss = squared")
    user: list[ColumnName] = Field(min_length=1, description="categorical columns of the user and the moment")
    item: list[ColumnName] = Field(min_length=1, description="categorical columns of the item")
    cross: list[ColumnName] = Field(default=[], description="numbers of user and item together")

    @model_validator(mode="after")
    def _one_test_and_one_role_a_column(self) -> Self:
        if self.test is not None and self.valid_halved_seed is not None:
            raise ValueError("test and valid_halved_seed both name a test; leave one out")
        columns = [self.label, *self.user, *self.item, *self.cross]
        repeated = sorted({column for column in columns if columns.count(column) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} stands twice in label, user, item and cross")
        return self


class FeaturesSection(Section):
    context: list[ColumnName] = Field(default=[], description="columns of interactions.context that models may use")
    context_min_count: int = Field(default=1, ge=1, description="as min_count of a categorical column, in interactions")


class EventsSection(Section):
    types: list[EventType] = Field(default=[], description="accepted by /events beside the types in the data")
    seen: list[EventType] = Field(default=["purchase"], description="types after which an item counts as seen")


class SplitSection(Section):
    kind: Literal["time", "leave-last-out", "random"] = Field(
        default="time", description="the other two rewrite the times; for comparing with papers"
    )
    test_days: float = Field(default=28, gt=0, description="time: length of the last window")
    valid_days: float = Field(default=28, gt=0, description="time: length of the window before the test window")
    ranker_windows: int | None = Field(
        default=None,
        ge=0,
        description="windows before validation, for the ranker. time: of valid_days, 4 if not given; "
        "leave-last-out: of one interaction of each user, 1 if not given; random: none",
    )
    valid_share: float = Field(default=0.1, gt=0, lt=0.5, description="random: share of a user's for validation")
    test_share: float = Field(default=0.1, gt=0, lt=0.5, description="random: share of a user's for the test")
    seed: int = Field(default=0, ge=0, description="random, and ties of leave-last-out")

    @property
    def num_ranker_windows(self) -> int:
        defaults = {"time": 4, "leave-last-out": 1, "random": 0}
        return defaults[self.kind] if self.ranker_windows is None else self.ranker_windows

    @model_validator(mode="after")
    def _random_has_no_earlier_window(self) -> Self:
        if self.kind == "random" and self.ranker_windows:
            raise ValueError(
                f"ranker_windows = {self.ranker_windows}, but in a random split nothing is earlier than validation; "
                "leave it out"
            )
        return self


class LimitsSection(Section):
    min_users: int = Field(default=1, ge=0, description="items with fewer users before the test split are left out")
    max_bad_share: float = Field(
        default=0.01, ge=0, le=1, description="a larger share of bad rows in a source fails the run"
    )


class StateSection(Section):
    history_limit: int = Field(default=512, ge=1, le=4096, description="interactions kept for a user")
    seen_limit: int = Field(default=4096, ge=1, le=65536, description="distinct seen items kept for a user")
    feature_ttl_days: float | None = Field(
        default=None, gt=0, description="age after which a user feature counts as missing"
    )


def _require_path(section: "ItemsSection | UsersSection", keys: Sequence[str]) -> None:
    if section.path is not None:
        return
    for key in keys:
        if getattr(section, key):
            raise ValueError(f"path is missing: {key} names columns of a table")
    if not section.id_feature:
        raise ValueError("path is missing")


def _require_free(id_feature: bool, features: Sequence[ItemFeatureColumn], name: str) -> None:
    if id_feature and any(feature.name == name for feature in features):
        raise ValueError(f"features: {name!r} is the name of id_feature; leave one of the two out")
