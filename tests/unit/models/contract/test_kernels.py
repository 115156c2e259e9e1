"""The compiled kernels give the bits of NumPy's, whatever comes: ties, doubles, -1, NaN, infinities, nothing at all."""

import runpy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.contract import kernels as package
from models.contract.kernels import chosen, compiled, plain
from models.contract.state import COUNTER, DAY_MS

NOW_MS = 19_000 * DAY_MS
HALF_LIVES = (14.0, 60.0)
rngs = st.integers(0, 2**63).map(np.random.default_rng)


def same(name: str, *arguments: Any) -> Any:
    """What both give, once it is known to be of one type, one shape and the same bits; every NaN counts as one."""
    expected, found = (getattr(form, name)(*arguments) for form in (plain, compiled))
    for one, other in zip(*(part if isinstance(part, tuple) else (part,) for part in (expected, found)), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert bits(one) == bits(other)
    return found


def bits(array: NDArray[Any]) -> bytes:
    return np.where(np.isnan(array), np.nan, array).tobytes() if array.dtype.kind == "f" else array.tobytes()


def readonly(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def times_of(rng: np.random.Generator, num: int) -> NDArray[np.int64]:
    """Not decreasing, mostly in sets of one time, some ahead of the clock."""
    steps = np.where(rng.random(num) < 0.6, 0, rng.integers(0, 40 * DAY_MS, num))
    return readonly(NOW_MS + rng.integers(-1, 2) * DAY_MS - np.cumsum(steps)[::-1])


def tables_of(rng: np.random.Generator, num_items: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Neighbours with -1 and doubles; similarities, many equal, zero, tiny, negative, or NaN; affinities."""
    width, num_columns = (int(number) for number in rng.integers(0, [9, 4]))
    near = rng.integers(-1, num_items, (num_items, width)).astype(rng.choice([np.int16, np.int32, np.int64]))
    values = rng.choice([rng.random(), 0.05, 0.5, 0.0, -0.25, 6e-8, 1.0], (num_items, width))
    values[rng.random(values.shape) < 0.3] = rng.random()
    if rng.random() < 0.1:
        values[rng.random(values.shape) < 0.2] = rng.choice([np.nan, np.inf])
    codes = rng.integers(0, 6, (num_items, num_columns)) * rng.choice([1, 819, 1024, 2000])  # to 4095, and past it
    codes = codes.astype(
        rng.choice([np.uint8, np.int16, np.uint16, np.int32]) if codes.max(initial=0) < 6 else np.int16
    )
    return readonly(near), readonly(values.astype(rng.choice([np.float16, np.float32]))), readonly(codes)


def history_of(rng: np.random.Generator, num_items: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    num = int(rng.choice([0, 1, 2, 9, 50, 400]))
    return readonly(rng.integers(0, num_items, num)), times_of(rng, num)


def scores_of(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Ties; now and then NaN."""
    scores = rng.choice(rng.normal(size=max(1, num // 2 + 1)), num).astype(np.float32)
    if rng.random() < 0.2:
        scores[rng.random(num) < 0.3] = rng.choice([np.nan, 0.0, -0.0])
    return readonly(scores)


def test_the_compiled_form_is_what_runs() -> None:
    """These tests need a C compiler, at installation."""
    assert (chosen.COMPILED, chosen.kernels) == (True, compiled)


def test_without_a_compiler_numpys_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(package, "compiled")
    monkeypatch.setitem(sys.modules, compiled.__name__, None)
    told = runpy.run_path(chosen.__file__)
    assert (told["COMPILED"], told["kernels"]) == (False, plain)


@given(rng=rngs, num=st.sampled_from([0, 1, 2, 7, 1000]), spread=st.sampled_from(["even", "one end", "twice"]))
def test_hashes_are_found(rng: np.random.Generator, num: int, spread: str) -> None:
    """Evenly spread ones, as hashes are, and such as mislead a guess by proportion."""
    hashes = rng.integers(0, 2**64, num, np.uint64)
    if spread == "one end":
        hashes >>= np.uint64(40)
        hashes[: num // 100] = np.uint64(2**64 - 1)
    if spread == "twice":
        hashes[: num // 2] = hashes[num - num // 2 :]
    hashes.sort()
    wanted = np.concatenate([rng.choice(hashes, 20) if num else hashes, rng.integers(0, 2**64, 20, np.uint64)])
    wanted = np.concatenate([wanted, wanted + np.uint64(1), np.array([0, 2**64 - 1], np.uint64)])
    found = same("find", readonly(hashes), wanted)
    assert [int(hashes[at]) for at in found if at >= 0] == [int(one) for one in wanted if one in hashes]
    same("find", hashes, wanted[:0])


@given(rng=rngs)
def test_histories_are_read(rng: np.random.Generator) -> None:
    """With unknown items, doubles, many of one time, and in no order of time, which a state never is."""
    hashes = np.sort(rng.integers(0, 2**64, 300, np.uint64))
    num = int(rng.choice([0, 1, 5, 60, 700]))
    stored = readonly(rng.choice(np.concatenate([hashes, rng.integers(0, 2**64, 30, np.uint64)]), num))
    times = times_of(rng, num)
    same("read", stored, times, hashes)
    same("read", stored, times[rng.permutation(num)] - rng.choice([0, 30_000 * DAY_MS]), hashes)
    same("read", stored, times, hashes[:0])


@given(rng=rngs, length=st.integers(0, 60))
def test_tower_rows_and_what_follows_from_a_history(rng: np.random.Generator, length: int) -> None:
    items, times = history_of(rng, int(rng.choice([1, 3, 1000])))
    same("tower_row", items, times, length)
    distinct, _, inverse = same("distinct", items)
    _, decayed = same("recency", times, NOW_MS, HALF_LIVES)
    sums = same("own_sums", inverse, decayed[1], len(distinct))
    same("best_first", distinct, sums, rng.random(len(distinct)) < 0.7, int(rng.integers(0, 60)))


@given(rng=rngs, num=st.integers(0, 80), limit=st.integers(0, 90))
def test_the_best_come_first(rng: np.random.Generator, num: int, limit: int) -> None:
    items = rng.permutation(np.arange(num, dtype=np.int64)) * 7
    weights = rng.choice([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, rng.normal(), 5e-324], num)
    same("best_first", items, weights, rng.random(num) < rng.choice([0, 0.5, 1]), limit)


@given(rng=rngs, limit=st.integers(0, 40))
def test_an_item_counts_for_the_first_source_that_names_it(rng: np.random.Generator, limit: int) -> None:
    sources = [(code, rng.integers(0, 30, rng.integers(0, 25))) for code in range(int(rng.integers(0, 5)))]
    same("first_named", sources, limit)


@settings(max_examples=300)
@given(rng=rngs, num_candidates=st.sampled_from([0, 1, 3, 40, 200]), num_recent=st.integers(0, 40))
def test_neighbours_reasons_and_cross_features(rng: np.random.Generator, num_candidates: int, num_recent: int) -> None:
    num_items = int(rng.choice([1, 12, 300]))
    near, values, codes = tables_of(rng, num_items)
    items, times = history_of(rng, num_items)
    own = compiled.distinct(items)
    candidates = rng.permutation(num_items)[:num_candidates]
    threshold = float(rng.choice([0.0, 0.05, 0.5]))
    with np.errstate(all="ignore"):
        neighbours, sums = (form.neighbour_sums(own[0][:num_recent], near, values) for form in (plain, compiled))
        ordered = [(one[order := np.argsort(one)], by[order]) for one, by in (neighbours, sums)]
        assert [bits(part) for part in ordered[0]] == [bits(part) for part in ordered[1]]
        same("reasons", candidates, own[0], num_recent, near, values, threshold)
        aged = compiled.recency(times, NOW_MS, HALF_LIVES)
        scores = scores_of(rng, len(candidates))
        same("cross", candidates, scores, own, aged, num_recent, near, values, codes)


@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray, lambda table: np.repeat(table, 2, 0)[::2]])
def test_tables_may_lie_in_memory_as_they_like(order: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    rng = np.random.default_rng(3)
    near, values, codes = rng.integers(-1, 50, (50, 6)), rng.random((50, 6)), rng.integers(0, 4, (50, 2))
    items, times = rng.integers(0, 50, 80), times_of(rng, 80)
    own, aged = compiled.distinct(items), compiled.recency(times, NOW_MS, HALF_LIVES)
    scores = scores_of(rng, 50)
    same("cross", np.arange(50), scores, own, aged, 30, order(near), order(values), order(codes))
    same("reasons", np.arange(20), own[0], 50, order(near), order(values), 0.05)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("floats", [np.float16, np.float32, np.float64])
def test_tables_of_every_type(kind: type, floats: type) -> None:
    """float16 in every value it can have: the sums are those of what NumPy widens them to."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(floats)
    near = readonly(np.tile(np.arange(100, dtype=kind), (1, 656))[:, : 2**16])
    with np.errstate(all="ignore"):
        items, sums = compiled.neighbour_sums(np.zeros(1, np.int64), near, every[None])
        one = plain.neighbour_sums(np.zeros(1, np.int64), near, every[None])
    assert (items[np.argsort(items)].tolist(), bits(sums[np.argsort(items)])) == (one[0].tolist(), bits(one[1]))


@pytest.mark.parametrize("item", [-1, 3, 2**62])
def test_an_item_outside_the_tables_is_refused(item: int) -> None:
    near, values = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
    wrong, right = np.array([item]), np.array([0])
    own, aged = compiled.distinct(wrong), compiled.recency(np.array([NOW_MS]), NOW_MS, HALF_LIVES)
    calls: list[Callable[[], object]] = [
        lambda: compiled.neighbour_sums(wrong, near, values),
        lambda: compiled.reasons(wrong, right, 1, near, values, 0.1),
        lambda: compiled.reasons(right, wrong, 1, near, values, 0.1),
        lambda: compiled.cross(right, np.zeros(1, np.float32), own, aged, 1, near, values, near),
        lambda: compiled.cross(wrong, np.zeros(1, np.float32), compiled.distinct(right), aged, 1, near, values, near),
        lambda: compiled.own_sums(wrong, np.zeros(1), 3),
    ]
    for call in calls:
        with pytest.raises(IndexError, match="out of bounds"):
            call()


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    near, values, one = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32), np.zeros(1, np.int64)
    own, aged = compiled.distinct(one), compiled.recency(one, NOW_MS, HALF_LIVES)
    calls: list[Callable[[], object]] = [
        lambda: compiled.read(np.zeros(2, np.uint64), one, np.zeros(3, np.uint64)),
        lambda: compiled.tower_row(np.zeros(2, np.int64), one, 4),
        lambda: compiled.own_sums(one, np.zeros(2), 3),
        lambda: compiled.best_first(one, np.zeros(2), np.ones(1, np.bool_), 3),
        lambda: compiled.best_first(one, np.zeros(1), np.ones(2, np.bool_), 3),
        lambda: compiled.neighbour_sums(one, near, values[:, :1]),
        lambda: compiled.neighbour_sums(one, near[:2], values),
        lambda: compiled.neighbour_sums(one, values, values),
        lambda: compiled.neighbour_sums(one, near, near),
        lambda: compiled.neighbour_sums(one, near[0], values[0]),
        lambda: compiled.cross(one, np.zeros(2, np.float32), own, aged, 1, near, values, near),
        lambda: compiled.cross(one, np.zeros(1, np.float32), own, (aged[0], aged[1][:1]), 1, near, values, near),
        lambda: compiled.cross(one, np.zeros(1, np.float32), (own[0], own[1], own[2][:0]), aged, 1, near, values, near),
        lambda: compiled.find(np.zeros((2, 2), np.uint64), np.zeros(2, np.uint64)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"dimension|needed|fit|items|hashes|places|shape"):
            call()


@given(rng=rngs, masked=st.booleans())
def test_what_may_be_on_a_list_is_told_of_any_items(rng: np.random.Generator, masked: bool) -> None:
    num = int(rng.choice([1, 2, 40]))
    mask = rng.random(num) < 0.6 if masked else None
    removed = rng.choice(num, int(rng.integers(0, num + 1)), replace=False)
    marks = np.zeros(num, np.bool_)
    for kind in (np.int64, np.int16):
        items = readonly(rng.integers(-1, num, int(rng.choice([0, 1, 90]))).astype(kind))
        found = same("among", items, mask, readonly(removed), marks)
        allowed = {item for item in range(num) if (mask is None or mask[item]) and item not in removed}
        assert found.tolist() == [item in allowed for item in items.tolist()]
        assert not marks.any()


@pytest.mark.parametrize("form", [plain, compiled])
@pytest.mark.parametrize(("items", "removed"), [([0, 5], [1]), ([-2], [1]), ([0], [5]), ([0], [-1])])
def test_what_may_be_on_a_list_is_told_of_no_item_outside(form: Any, items: list[int], removed: list[int]) -> None:
    marks = np.zeros(5, np.bool_)
    with pytest.raises(IndexError, match="out of bounds"):
        form.among(np.array(items), None, np.array(removed), marks)
    assert not marks.any()


@given(rng=rngs, num=st.sampled_from([1, 2, 300]), width=st.sampled_from([0, 1, 16, 145]))
def test_rows_are_taken(rng: np.random.Generator, num: int, width: int) -> None:
    for kind in (np.float32, np.float16, np.int8):
        table = readonly(rng.integers(-100, 100, (num, width)).astype(kind))
        items = rng.integers(0, num, int(rng.choice([0, 1, 11, 12, 13, 200])))
        assert same("take_rows", table, readonly(items)).tolist() == table[items].tolist()


@pytest.mark.parametrize("form", [plain, compiled])
def test_rows_outside_the_table_and_masks_are_refused(form: Any) -> None:
    table = np.zeros((3, 2), np.float32)
    for items in ([0, 3], [-1]):
        with pytest.raises(IndexError, match="out of bounds"):
            form.take_rows(table, np.array(items))
    with pytest.raises(TypeError, match="not by bool"):
        form.take_rows(table, np.array([True, False, True]))


@given(rng=rngs)
def test_what_is_removed_is_named_once(rng: np.random.Generator) -> None:
    arrays = [readonly(rng.integers(-2, 30, int(rng.choice([0, 1, 50])))) for _ in range(int(rng.integers(0, 4)))]
    found = same("removed_items", arrays)
    assert found.tolist() == sorted({item for array in arrays for item in array.tolist() if item >= 0})


@given(rng=rngs, num=st.integers(0, 40), since=st.integers(-3, 40))
def test_activity_is_counted(rng: np.random.Generator, num: int, since: int) -> None:
    counters = np.zeros(num, COUNTER)
    counters["day"], counters["count"] = rng.integers(0, 38, num), rng.integers(0, 2**32, num)
    days, counts = counters["day"].tolist(), counters["count"].tolist()
    total = sum(count for day, count in zip(days, counts, strict=True) if day == 0)
    recent = sum(count for day, count in zip(days, counts, strict=True) if day > since)
    for form in (plain, compiled):
        assert form.activity(counters["day"], counters["count"], since) == (total, recent)


@given(values=st.lists(st.text(max_size=9), min_size=1, max_size=20), rng=rngs)
def test_texts_are_decoded(values: list[str], rng: np.random.Generator) -> None:
    parts = [value.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode() for value in values]
    data = readonly(np.frombuffer(b"".join(parts), np.uint8).copy())
    for kind in (np.uint16, np.int64, np.uint64):
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(kind)
        places = rng.integers(0, len(parts), int(rng.choice([0, 1, 30])))
        for form in (plain, compiled):
            assert form.texts(data, offsets, places) == [parts[place].decode() for place in places]


@pytest.mark.parametrize("form", [plain, compiled])
@pytest.mark.parametrize("place", [-1, 2])
def test_there_is_no_text_outside(form: Any, place: int) -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        form.texts(np.zeros(2, np.uint8), np.array([0, 1, 2]), np.array([place]))


def test_damaged_offsets_read_no_memory_outside() -> None:
    with pytest.raises(IndexError, match="out of bounds for 2 bytes"):
        compiled.texts(np.zeros(2, np.uint8), np.array([0, 3]), np.array([0]))


@given(rng=rngs, size=st.sampled_from([0, 1, 2, 20]))
def test_rows_of_an_answer(rng: np.random.Generator, size: int) -> None:
    items, because = rng.integers(0, 9, size), rng.integers(-1, 9, size)
    scores = (rng.normal(size=size) * 10.0 ** rng.integers(-8, 9, size)).astype(np.float32)
    sources = rng.integers(0, 2, size).astype(np.uint8)
    expected = [
        {
            "item_id": f"i{item}",
            "rank": rank,
            "score": float(np.round(np.float64(score), 6)),
            "source": ("near", "popular")[source],
            "reason": {"kind": "because_of", "item_id": f"i{cause}"} if cause >= 0 else None,
        }
        for rank, (item, score, source, cause) in enumerate(zip(items, scores, sources, because, strict=True), 1)
    ]
    asked = []

    def strings(places: NDArray[np.int64]) -> list[str]:
        asked.append(places.tolist())
        return [f"i{place}" for place in asked[-1]]

    for form in (plain, compiled):
        rows = form.listed(items, scores, sources, because, strings, ("near", "popular"))
        assert rows == expected
        assert [list(row) for row in rows] == [list(row) for row in expected]  # the order in which they are sent
    assert asked == 2 * [[*items.tolist(), *because[because >= 0].tolist()]]


@pytest.mark.parametrize("form", [plain, compiled])
def test_a_source_without_a_name(form: Any) -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(IndexError):
        form.listed(one, one.astype(np.float32), np.array([1], np.uint8), one, lambda places: ["a", "b"], ("near",))


@pytest.mark.parametrize("form", [plain, compiled])
def test_rows_need_as_many_of_each(form: Any) -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="1 items, but 2 scores, 1 sources, 1 reasons"):
        form.listed(one, np.zeros(2, np.float32), one.astype(np.uint8), one, lambda places: ["a", "b"], ("near",))
    with pytest.raises(ValueError, match="2 items, but 1 ids"):
        form.listed(one, np.zeros(1, np.float32), one.astype(np.uint8), one, lambda places: ["a"], ("near",))
