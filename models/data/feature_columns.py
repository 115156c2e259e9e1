"""Which columns of the items and users tables models learn from, and as what: `features` in `shortlist.toml`."""

from typing import Annotated, Literal

from pydantic import Field

from models.section import Section

# A column's name becomes a file's name in the prepared dataset and a field's name in the API.
ColumnName = Annotated[str, Field(pattern=r"^\w[\w .-]*$", max_length=64)]


class CategoricalColumn(Section):
    kind: Literal["categorical"]
    name: ColumnName
    min_count: int = Field(
        default=1, ge=1, description="values that fewer rows have share code 0 with missing and unknown"
    )


class NumericColumn(Section):
    kind: Literal["numeric"]
    name: ColumnName


class MultiColumn(Section):
    """Several categories of one item: a list, or text with a separator."""

    kind: Literal["multi"]
    name: ColumnName
    separator: str | None = Field(default=None, min_length=1, description="what stands between the values of a text")
    min_count: int = Field(default=1, ge=1, description="values that fewer rows have are left out")
    max_values: int = Field(default=8, ge=1, le=256, description="values kept of an item, the first ones")


class TextColumn(Section):
    kind: Literal["text"]
    name: ColumnName


class VectorColumn(Section):
    """A list of numbers, made elsewhere of an image or a text."""

    kind: Literal["vector"]
    name: ColumnName
    dim: int = Field(ge=1, le=8192, description="length of every list")


FeatureColumn = Annotated[CategoricalColumn | NumericColumn, Field(discriminator="kind")]
ItemFeatureColumn = Annotated[
    CategoricalColumn | NumericColumn | MultiColumn | TextColumn | VectorColumn, Field(discriminator="kind")
]
