"""Strings that repeat are stored once, and every string comes back as it was."""

from pathlib import Path

import numpy as np
import pytest

from models.contract.columns import BytesColumn


def test_repeated_values_become_codes_of_the_distinct_ones() -> None:
    column = BytesColumn.of([b'"wine"', b'"fruit"', b'"wine"', b'"wine"', b"null", b'"fruit"']).compact()
    assert column.codes is not None
    assert column.data.tobytes() == b'"fruit""wine"null'
    assert column.offsets.tolist() == [0, 7, 13, 17]
    assert column.codes.tolist() == [1, 0, 1, 1, 2, 0]
    assert (column.offsets.dtype, column.codes.dtype, len(column)) == (np.uint8, np.uint8, 6)
    assert [column[index] for index in (0, 4, 5)] == [b'"wine"', b"null", b'"fruit"']


def test_distinct_values_are_stored_one_after_the_other() -> None:
    """A code for each would only be added to them."""
    values = [str(number).encode() for number in range(300)]
    column = BytesColumn.of(values).compact()
    assert column.codes is None
    assert column.offsets.dtype == np.uint16
    assert [column[index] for index in range(300)] == values


@pytest.mark.parametrize("values", [[b"a", b"", b"a" * 400, b"a" * 400], [b"x", b"y"], [b"same"] * 70_000])
def test_a_compact_column_comes_back_from_its_files(tmp_path: Path, values: list[bytes]) -> None:
    BytesColumn.of(values).compact().save(tmp_path, "name")
    column = BytesColumn.load(tmp_path, "name")
    assert [column[index] for index in range(len(column))] == values
    assert isinstance(column.offsets, np.memmap)
    assert not isinstance(column.unmapped().offsets, np.memmap)
    assert column.unmapped()[1] == values[1]


def test_an_index_past_the_end_is_an_error() -> None:
    for values in ([b"a", b"b"], [b"aaaa"] * 5):
        with pytest.raises(IndexError):
            BytesColumn.of(values).compact()[len(values)]


def test_strings_at_several_places_are_those_at_each() -> None:
    """With every string stored and with each distinct one stored once; twice the same place, none at all."""
    values = [text.encode() for text in ("wine", "", "Käse", "wine", "wine", "wine", "a longer one", "wine")]
    places = np.array([6, 2, 1, 2, 0])
    for column in (BytesColumn.of(values), BytesColumn.of(values).compact(), BytesColumn.of(values * 40).compact()):
        assert column.strings(places) == ["a longer one", "Käse", "", "Käse", "wine"]
        assert column.strings(np.empty(0, np.int64)) == []
