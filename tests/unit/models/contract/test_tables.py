"""Rows in fewer bits: codes, scales and what is read back, by hand."""

from typing import Any

import numpy as np
import pytest

from models.contract.tables import FP8_MAX, RowTable, int8_codes, read_similarity, smallest_int, stored_similarity


def test_codes_are_counted_in_127ths_of_the_columns_largest_value() -> None:
    """-0.5 is 63.5 of 127 steps, which rounds to the even 64; a column of zeros has the code 0."""
    rows = np.array([[1.0, 0.0, -2.54], [-0.5, 0.0, 1.27], [0.25, 0.0, 0.0]], np.float32)
    codes, scales = int8_codes(rows)
    assert codes.tolist() == [[127, 0, -127], [-64, 0, 64], [32, 0, 0]]
    np.testing.assert_allclose(scales[[0, 2]], [1 / 127, 0.02], rtol=1e-6)
    table = RowTable(codes, scales)
    np.testing.assert_allclose(table[np.array([1, 0])], [[-64 / 127, 0, 1.28], [1, 0, -2.54]], rtol=1e-6)
    assert (table.shape, len(table), table.precision) == ((3, 3), 3, "int8")


def test_no_value_is_further_off_than_half_a_step() -> None:
    rows = np.random.default_rng(0).normal(0, [0.01, 1, 300], (500, 3)).astype(np.float32)
    _, scales = int8_codes(rows)
    assert (np.abs(RowTable.of(rows, "int8")[:] - rows) <= scales / 2 * (1 + 1e-5)).all()


def test_float32_rows_come_back_bit_for_bit_and_float16_rows_rounded() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    plain, half = RowTable.of(rows, "fp32"), RowTable.of(rows, "fp16")
    assert plain[:] is not rows
    assert np.shares_memory(plain[:], rows)
    items = np.array([3, 3, 0])
    assert (plain[items] == rows[items]).all()
    assert half[items].dtype == np.float32
    assert (half[items] == rows[items].astype(np.float16).astype(np.float32)).all()
    assert (half.precision, half.stored.nbytes) == ("fp16", 200)


def test_codes_as_faiss_counts_them() -> None:
    """Code c is (c - 128) * scale: low + (c + 0.5) / 255 * width with low = -128.5 scales, width = 255 scales."""
    table = RowTable(np.array([[-127, 0], [127, -1]], np.int8), np.array([0.5, 2.0], np.float32))
    ranges, unsigned = table.sq8()
    assert unsigned.tolist() == [[1, 128], [255, 127]]
    assert ranges.tolist() == [-64.25, -257.0, 127.5, 510.0]
    low, width = ranges[:2], ranges[2:]
    np.testing.assert_allclose(low + (unsigned + 0.5) / 255 * width, table[:], rtol=1e-5)


def test_eight_bits_of_a_float_by_hand() -> None:
    """1 has the biased exponent 15 and a mantissa of zeros; 0.3 = 1.2 / 4 is nearest to (1 + 3/16) / 4."""
    values = np.array([[0.0, 1.0, 0.5], [FP8_MAX, 0.3, 1.03]], np.float32)
    stored = stored_similarity(values, "fp8")
    assert stored.tolist() == [[0, 15 * 16, 14 * 16], [255, 13 * 16 + 3, 15 * 16]]
    assert stored.dtype == np.uint8
    assert read_similarity(stored).tolist() == [[0, 1, 0.5], [FP8_MAX, 19 / 64, 1]]
    assert read_similarity(stored).dtype == np.float16


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_eight_bits_keep_the_order_and_all_but_a_thirty_second(dtype: type[np.floating[Any]]) -> None:
    values = np.sort(np.random.default_rng(0).uniform(0, 1, 5000) ** 6).astype(dtype)
    read = read_similarity(stored_similarity(values, "fp8")).astype(np.float64)
    assert (np.diff(read) >= 0).all()
    assert (values > 6.2e-5).sum() > 500
    assert (np.abs(read - values) <= np.maximum(values / 32, 2e-6)).all()
    assert (stored_similarity(read_similarity(np.arange(256, dtype=np.uint8)), "fp8") == np.arange(256)).all()


@pytest.mark.parametrize("value", [-0.1, 1.95, np.inf, np.nan])
def test_what_does_not_fit_into_eight_bits_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"only values from 0 to 1\.9375 can be stored in fp8"):
        stored_similarity(np.array([0.5, value]), "fp8")


@pytest.mark.parametrize(
    ("largest", "signed", "unsigned"),
    [
        (0, "int8", "uint8"),
        (127, "int8", "uint8"),
        (128, "int16", "uint8"),
        (255, "int16", "uint8"),
        (256, "int16", "uint16"),
        (32_767, "int16", "uint16"),
        (32_768, "int32", "uint16"),
        (65_536, "int32", "uint32"),
    ],
)
def test_the_smallest_integers_that_hold_a_number(largest: int, signed: str, unsigned: str) -> None:
    assert smallest_int(largest, signed=True) == signed
    assert smallest_int(largest, signed=False) == unsigned
