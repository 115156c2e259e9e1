"""The grammar of `filter`: `{"field", "eq"}` and `{"field", "in"}`, joined by `{"all": [...]}` and `{"any": [...]}`."""

import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, PlainValidator, StringConstraints, Tag
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_DEPTH = 5
MAX_CONDITIONS = 64
MAX_VALUES = 1_024

FilterScalar = str | int | float | bool


def _scalar(value: Any) -> FilterScalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("finite_number", "should be a finite number")
    if not isinstance(value, str | int | float | bool):
        raise PydanticCustomError("scalar", "should be a string, a number, true or false")
    return value


FilterValue = Annotated[
    FilterScalar,
    PlainValidator(_scalar),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}),
]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Condition(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Equals(Condition):
    """The item's value of this column is this one."""

    field: FieldName
    eq: FilterValue


class OneOf(Condition):
    """The item's value of this column is one of these."""

    field: FieldName
    values: list[FilterValue] = Field(alias="in", min_length=1, max_length=MAX_VALUES)


class AllOf(Condition):
    """Every part holds."""

    all: list["AnyFilter"] = Field(min_length=1, max_length=MAX_CONDITIONS)


class AnyOf(Condition):
    """At least one part holds."""

    any: list["AnyFilter"] = Field(min_length=1, max_length=MAX_CONDITIONS)


def _kind(value: Any) -> str | None:
    fields = getattr(type(value), "model_fields", {}).items()  # of a filter that is written, not read
    names = value if isinstance(value, dict) else {field.alias or name for name, field in fields}
    return next((f"<{name}>" for name in ("all", "any", "in", "eq") if name in names), None)


AnyFilter = Annotated[
    Annotated[AllOf, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[OneOf, Tag("<in>")]
    | Annotated[Equals, Tag("<eq>")],
    Discriminator(
        _kind,
        custom_error_type="filter",
        custom_error_message='should be {"field", "eq"}, {"field", "in"}, {"all": [...]} or {"any": [...]}',
    ),
]
AllOf.model_rebuild()
AnyOf.model_rebuild()


def conditions(parts: "Node", depth: int = 1) -> Iterator[tuple[Equals | OneOf, int]]:
    """Every comparison of a filter, and how deep it stands."""
    if isinstance(parts, Equals | OneOf):
        yield parts, depth
        return
    for part in parts.all if isinstance(parts, AllOf) else parts.any:
        yield from conditions(part, depth + 1)


def _bounded(value: "Node") -> "Node":
    found = list(conditions(value))
    if max(depth for _, depth in found) > MAX_DEPTH:
        raise PydanticCustomError("filter", f"is nested deeper than {MAX_DEPTH} levels")
    if len(found) > MAX_CONDITIONS:
        raise PydanticCustomError("filter", f"has more than {MAX_CONDITIONS} conditions")
    return value


Node = AllOf | AnyOf | OneOf | Equals
Filter = Annotated[AnyFilter, AfterValidator(_bounded)]
