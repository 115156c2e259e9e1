"""What the models were trained on and what a request may bring: part of every bundle's manifest."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 1


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CategoricalFeature(Frozen):
    """A feature with a fixed vocabulary. Code 0 is a missing or unknown value; value i of the vocabulary is i + 1."""

    kind: Literal["categorical"] = "categorical"
    name: str
    vocabulary: list[str]
    is_id: bool = Field(
        default=False, description="the values are the ids themselves: each stands for one user or item"
    )

    @property
    def size(self) -> int:
        """Number of codes, the one for missing and unknown included."""
        return len(self.vocabulary) + 1

    @cached_property
    def codes(self) -> dict[str, int]:
        return {value: code for code, value in enumerate(self.vocabulary, 1)}


class NumericFeature(Frozen):
    """A number, standardised as (value - mean) / std; a missing value becomes 0, the mean."""

    kind: Literal["numeric"] = "numeric"
    name: str
    mean: float
    std: float = Field(gt=0)


class MultiFeature(Frozen):
    """Several values of one vocabulary. An item has `length` codes: those of its values first, then 0 as padding."""

    kind: Literal["multi"] = "multi"
    name: str
    vocabulary: list[str]
    length: int = Field(ge=1)

    @property
    def size(self) -> int:
        """Number of codes, the padding included."""
        return len(self.vocabulary) + 1


class TextFeature(Frozen):
    """Free text; a missing one is empty."""

    kind: Literal["text"] = "text"
    name: str


class VectorFeature(Frozen):
    """A vector made elsewhere, of an image or a text; a missing one is all zeros."""

    kind: Literal["vector"] = "vector"
    name: str
    dim: int = Field(ge=1)


Feature = Annotated[CategoricalFeature | NumericFeature, Field(discriminator="kind")]
ItemFeature = Annotated[
    CategoricalFeature | NumericFeature | MultiFeature | TextFeature | VectorFeature, Field(discriminator="kind")
]
OfItem = TypeVar("OfItem", MultiFeature, TextFeature, VectorFeature)


class Schema(Frozen):
    """Feature groups in the order the models take them, and the columns that a caller may filter on or get back."""

    version: Literal[1] = SCHEMA_VERSION
    event_types: list[str] = Field(min_length=1, description="accepted by /events; the code of a type is its position")
    seen_types: list[str] = Field(description="event types after which an item counts as seen")
    user_features: list[Feature] = []
    context_features: list[CategoricalFeature] = []
    item_features: list[ItemFeature] = []
    returned: list[str] = Field([], description="item columns that `fields` may ask for")
    filterable: list[str] = Field([], description="item columns that `filter` may name")
    event_context: list[str] = Field([], description="context columns that an event may carry")
    affinity: list[str] = Field([], description="categorical item features for which the user's affinity is a feature")
    history_limit: int = Field(512, ge=1, le=4096)
    seen_limit: int = Field(4096, ge=1, le=65536)
    feature_ttl_s: int | None = Field(None, ge=1, description="age after which a user feature counts as missing")

    def categorical(self, group: str) -> list[CategoricalFeature]:
        return [f for f in getattr(self, f"{group}_features") if isinstance(f, CategoricalFeature)]

    def numeric(self, group: str) -> list[NumericFeature]:
        return [f for f in getattr(self, f"{group}_features") if isinstance(f, NumericFeature)]

    def of_items(self, kind: type[OfItem]) -> list[OfItem]:
        """The item features of a kind that only items have."""
        return [f for f in self.item_features if isinstance(f, kind)]


def encode_categorical(features: list[CategoricalFeature], values: Mapping[str, str]) -> list[int]:
    """A code for each feature; what is absent or not in the vocabulary is 0."""
    return [_code(feature, values.get(feature.name)) for feature in features]


def encode_numeric(features: list[NumericFeature], values: Mapping[str, float]) -> list[float]:
    """A standardised value for each feature; what is absent or not finite is 0."""
    scaled = [(values.get(feature.name, math.nan) - feature.mean) / feature.std for feature in features]
    return [value if math.isfinite(value) else 0.0 for value in scaled]


def _code(feature: CategoricalFeature, value: str | None) -> int:
    return feature.codes.get(value, 0) if value is not None else 0
