"""What is kept, what is forgotten, and never more than the bound."""

from hypothesis import given
from hypothesis import strategies as st

from app.kept import Kept


def test_what_was_used_last_is_kept() -> None:
    kept: Kept[str] = Kept(10)
    kept.put("a", "1", 4)
    kept.put("b", "2", 4)
    assert kept.get("a") == "1"
    kept.put("c", "3", 4)  # "b" was used longest ago
    assert [kept.get(key) for key in "abc"] == ["1", None, "3"]
    kept.put("d", "4", 10)
    assert [kept.get(key) for key in "acd"] == [None, None, "4"]


def test_what_is_larger_than_the_bound_drives_nothing_out() -> None:
    kept: Kept[int] = Kept(10)
    kept.put("small", 1, 1)
    kept.put("large", 2, 11)
    assert (kept.get("small"), kept.get("large")) == (1, None)
    nothing: Kept[int] = Kept(0)
    nothing.put("a", 1, 1)
    assert nothing.get("a") is None


@given(puts=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=40))
def test_the_sizes_of_what_is_kept_stay_within_the_bound(puts: list[tuple[int, int]]) -> None:
    """The same key may come twice, as when two callers of a batch share a history."""
    kept: Kept[int] = Kept(12)
    for key, size in puts:
        kept.put(key, size, size)
        assert kept.get(key) == size
        assert sum(kept.get(one) or 0 for one in range(6)) <= 12
