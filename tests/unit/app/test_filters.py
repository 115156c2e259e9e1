"""Filters: what they let through, and that they agree with a comparison of each item in plain Python."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter

from app.errors import InvalidRequest, invalid
from app.filters import Columns, FilterMask, MaskCache, allowed_items, check_filter, filter_mask, index_columns
from app.query import Filter, Node

READER: TypeAdapter[Node] = TypeAdapter(Filter)
STORED: dict[str, tuple[NDArray[np.int32], list[Any]]] = {
    "brand": (np.array([0, 1, -1, 0], np.int32), ["own", "national"]),
    "organic": (np.array([0, 1, 0, 1], np.int32), [False, True]),
    "aisle": (np.array([0, 1, 2, -1], np.int32), [1, 2.5, "1"]),
}
COLUMNS: Columns = index_columns(STORED)
VALUES: dict[str, list[Any]] = {
    "brand": ["own", "national", None, "own"],
    "organic": [False, True, False, True],
    "aisle": [1, 2.5, "1", None],
}


def read(text: str | bytes) -> Node:
    return READER.validate_json(text, strict=True)


def mask(text: str) -> list[bool]:
    return filter_mask(read(text), COLUMNS).tolist()


def test_each_form_of_the_grammar() -> None:
    assert mask('{"field": "brand", "eq": "own"}') == [True, False, False, True]
    assert mask('{"field": "brand", "in": ["national", "none such"]}') == [False, True, False, False]
    assert mask('{"all": [{"field": "brand", "eq": "own"}, {"field": "organic", "eq": true}]}') == [0, 0, 0, 1]
    assert mask('{"any": [{"field": "brand", "eq": "national"}, {"field": "aisle", "eq": "1"}]}') == [0, 1, 1, 0]


def test_true_is_not_1_and_a_number_is_not_its_text_and_1_is_1_point_0() -> None:
    assert mask('{"field": "organic", "eq": 1}') == [False] * 4
    assert mask('{"field": "aisle", "eq": true}') == [False] * 4
    assert mask('{"field": "aisle", "eq": 1.0}') == [True, False, False, False]
    assert mask('{"field": "aisle", "eq": "1"}') == [False, False, True, False]


def _conditions() -> st.SearchStrategy[dict[str, Any]]:
    values = st.sampled_from(["own", "national", "x", True, False, 1, 1.0, 2.5, 0, "1"])
    names = st.sampled_from(sorted(COLUMNS))
    leaf = st.fixed_dictionaries({"field": names, "eq": values}) | st.fixed_dictionaries(
        {"field": names, "in": st.lists(values, min_size=1, max_size=4)}
    )
    return st.recursive(
        leaf,
        lambda inner: (
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)})
            | st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)})
        ),
        max_leaves=6,
    )


def _holds(parts: dict[str, Any], item: int) -> bool:
    if "all" in parts:
        return all(_holds(part, item) for part in parts["all"])
    if "any" in parts:
        return any(_holds(part, item) for part in parts["any"])
    value = VALUES[parts["field"]][item]
    wanted = parts.get("in", [parts.get("eq")])
    numbers = (int, float)
    return any(
        value == other and (type(value) is type(other) or (type(value) in numbers and type(other) in numbers))
        for other in wanted
    )


@given(_conditions())
def test_the_mask_is_what_comparing_each_item_gives(parts: dict[str, Any]) -> None:
    try:
        parsed = read(orjson.dumps(parts))
    except ValueError:  # deeper than allowed
        return
    assert filter_mask(parsed, COLUMNS).tolist() == [_holds(parts, item) for item in range(4)]


def _nested(depth: int) -> str:
    return '{"all": [' * (depth - 1) + '{"field": "brand", "eq": 1}' + "]}" * (depth - 1)


def _wide(conditions: int) -> bytes:
    half = [{"field": "brand", "eq": n} for n in range(conditions // 2)]
    return orjson.dumps({"any": [{"all": half}, {"all": [*half, *([half[0]] if conditions % 2 else [])]}]})


def test_the_limits_of_depth_and_size_are_exact() -> None:
    read(_nested(5))
    read(_wide(64))
    read(orjson.dumps({"field": "brand", "in": list(range(1024))}))
    for text in (_nested(6), _wide(65), orjson.dumps({"field": "brand", "in": list(range(1025))})):
        with pytest.raises(ValueError, match=r"deeper than 5|more than 64|at most 1024"):
            read(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{}", "body"),
        ('{"field": "brand"}', "body"),
        ('{"field": "brand", "eq": null}', "eq"),
        ('{"field": "brand", "eq": [1]}', "eq"),
        ('{"field": "brand", "eq": NaN}', "eq"),
        ('{"field": "brand", "eq": 1, "in": [1]}', "eq"),
        ('{"field": 3, "eq": 1}', "field"),
        ('{"all": []}', "all"),
        ('{"all": [{"any": [{"field": "brand", "in": [1, -Infinity]}]}]}', "all[0].any[0].in[1]"),
        ('{"all": [{"field": "brand", "lt": 3}]}', "all[0]"),
    ],
)
def test_a_filter_outside_the_grammar_is_refused_with_the_place(text: str, field: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read(text)
    assert invalid(caught.value.errors()).details[0]["field"] == field  # type: ignore[attr-defined]


def test_an_unknown_column_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match="'colour' is unknown to the active bundle; known: aisle, brand, organic"):
        check_filter(read('{"any": [{"field": "colour", "eq": 1}]}'), sorted(COLUMNS))


def test_allowed_is_the_mask_without_what_was_removed() -> None:
    found = FilterMask(np.array([True, True, False, True]), 3)
    marks, every = np.zeros(4, np.bool_), np.arange(4)
    allowed = allowed_items(marks, found, [np.array([1, -1, 2, 1]), np.empty(0, np.int64), np.array([1])])
    assert allowed[every].tolist() == [True, False, False, True]
    assert (allowed.count, allowed.items().tolist()) == (2, [0, 3])
    assert found.mask.tolist() == [True, True, False, True]
    free = allowed_items(marks, None, [])
    assert (free[every].tolist(), free.count, free.items().tolist()) == ([True] * 4, 4, [0, 1, 2, 3])
    assert not marks.any(), "what one request may not have does not stay away from the next"


@given(
    st.one_of(st.none(), st.lists(st.booleans(), min_size=6, max_size=6)),
    st.lists(st.lists(st.integers(-1, 5), max_size=8), max_size=3),
    st.lists(st.integers(0, 5), max_size=9),
)
def test_allowed_tells_of_any_items_what_a_mask_of_the_request_would(
    mask: list[bool] | None, removed: list[list[int]], asked: list[int]
) -> None:
    found = None if mask is None else FilterMask(np.array(mask), sum(mask))
    gone = {item for items in removed for item in items}
    full = [inside and item not in gone for item, inside in enumerate(mask or [True] * 6)]
    allowed = allowed_items(np.zeros(6, np.bool_), found, [np.array(items, np.int64) for items in removed])
    assert allowed[np.array(asked, np.int64)].tolist() == [full[item] for item in asked]
    assert (allowed.count, allowed.items().tolist()) == (sum(full), [item for item in range(6) if full[item]])


def test_the_cache_gives_the_same_mask_again_and_forgets_the_oldest_when_full() -> None:
    first, second, third = (read(f'{{"field": "brand", "eq": "{value}"}}') for value in ("own", "national", "x"))
    size = 4 + len(first.model_dump_json())
    cache = MaskCache(STORED, 2 * size + 5 + 5)  # "national" is 5 characters longer than "own"
    kept, dropped = cache.find(first), cache.find(second)
    assert (kept.num_items, dropped.num_items) == (2, 1)
    assert cache.find(first) is kept
    cache.find(third)
    assert cache.find(first) is kept
    assert cache.find(second) is not dropped
    assert cache.find(second).mask.tolist() == dropped.mask.tolist()
    assert MaskCache(STORED, 0).find(first).mask.tolist() == kept.mask.tolist()


def test_a_filter_looks_its_values_up_and_does_not_go_through_the_columns() -> None:
    """A column may have as many values as there are items, and one thread computes all requests."""

    class Once(list[Any]):
        walks = 0

        def __iter__(self) -> Iterator[Any]:
            self.walks += 1
            return super().__iter__()

    values = Once(["own", "national", "none's"])
    cache = MaskCache({"brand": (np.array([2, 1, -1, 0], np.int32), values)}, 0)
    opening = values.walks
    assert cache.find(read('{"field": "brand", "in": ["national", "none\'s"]}')).mask.tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert cache.find(read('{"field": "brand", "eq": "own"}')).mask.tolist() == [False, False, False, True]
    assert values.walks == opening


def test_values_that_are_equal_are_all_found() -> None:
    """1 and 1.0 are one number, should a column hold both."""
    columns = index_columns({"aisle": (np.array([0, 1, 2], np.int32), [1, 1.0, True])})
    assert filter_mask(read('{"field": "aisle", "eq": 1}'), columns).tolist() == [True, True, False]
