"""Recommendation ids."""

from app.ulid import ulid


def test_the_form_is_that_of_the_ulid_specification() -> None:
    """The specification's example: 1469918176385 ms is 01ARYZ6S41 (https://github.com/ulid/spec)."""
    assert ulid(1_469_918_176_385)[:10] == "01ARYZ6S41"
    assert len(ulid(0)) == 26
    assert set(ulid(2**48 - 1)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_ids_of_one_moment_differ_and_those_of_later_moments_sort_after() -> None:
    assert len({ulid(5) for _ in range(1000)}) == 1000
    assert max(ulid(1) for _ in range(50)) < min(ulid(2) for _ in range(50))
