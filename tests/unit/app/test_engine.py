"""The engine against NumPy on the bundle's own vectors."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from app.engine import Engine
from app.filters import Allowed, FilterMask, allowed_items
from app.kept import Kept
from models.contract.features import UserFeatures
from models.contract.history import EMPTY, History

RNG = np.random.default_rng(3)


def only(engine: Engine, mask: NDArray[np.bool_]) -> Allowed:
    return allowed_items(engine.marks, FilterMask(mask, int(mask.sum())), [])


def history(*items: int) -> History:
    return EMPTY.extended(items, 1_000_000)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.2, 0.02, 0.0])
def test_nearest_finds_exactly_the_best_allowed_items_however_few_there_are(engine: Engine, share: float) -> None:
    """Against brute force over the allowed items, through the index and, for few items, beside it."""
    allowed = RNG.random(engine.bundle.num_items) < share
    user_vector = RNG.normal(size=engine.bundle.item_vectors.shape[1]).astype(np.float32)
    scores = np.where(allowed, engine.bundle.item_vectors[:] @ user_vector, -np.inf)
    for limit in (1, 7, 120, 500):
        expected = np.argsort(-scores)[: min(limit, int(allowed.sum()))]
        found = engine.nearest(user_vector[None], [only(engine, allowed)], [limit])
        assert [items.tolist() for items in found] == [expected.tolist()]


def test_an_index_that_holds_the_allowed_items_back_is_made_up_for(engine: Engine) -> None:
    """Everything near the user is forbidden, so what the index brings does not suffice."""
    user_vector = engine.bundle.item_vectors[:1][0]
    scores = engine.bundle.item_vectors[:] @ user_vector
    allowed = scores < np.median(scores)
    expected = np.argsort(-np.where(allowed, scores, -np.inf))[:5]
    assert engine.nearest(user_vector[None], [only(engine, allowed)], [5])[0].tolist() == expected.tolist()


def test_users_of_a_batch_have_what_each_would_have_alone(engine: Engine) -> None:
    """With limits of their own, and of filters that leave all, most, few and none: through searches of several sizes,
    and beside the index."""
    vectors = RNG.normal(size=(24, engine.bundle.item_vectors.shape[1])).astype(np.float32)
    allowed = [
        only(engine, RNG.random(engine.bundle.num_items) < share) for share in [1.0, 0.95, 0.6, 0.3, 0.01, 0] * 4
    ]
    limits = RNG.integers(1, 150, 24).tolist()
    together = engine.nearest(vectors, allowed, limits)
    for row, found in enumerate(together):
        alone = engine.nearest(vectors[row : row + 1], allowed[row : row + 1], limits[row : row + 1])[0]
        assert found.tolist() == alone.tolist()
    assert engine.nearest(vectors[:0], [], []) == []


def test_user_vectors_are_the_same_alone_and_in_a_batch(engine: Engine) -> None:
    """To the last bit of a float32, which a sum over another memory layout may turn."""
    histories = [history(*RNG.integers(0, 120, size).tolist()) for size in (1, 3, 20, 50)]
    together = engine.user_vectors(histories)
    assert together.shape == (4, 8)
    for one, row in zip(histories, together, strict=True):
        np.testing.assert_array_max_ulp(engine.user_vectors([one])[0], row, maxulp=4)


def test_ranking_scores_are_bitwise_the_same_alone_and_in_a_batch(engine: Engine) -> None:
    sizes, columns = (5, 1, 9), len(engine.bundle.manifest.ranking.cross_features)
    histories = [EMPTY] * 3
    users = [UserFeatures(RNG.integers(0, 2, 2), RNG.normal(size=6).astype(np.float32)) for _ in range(3)]
    items = [RNG.permutation(120)[:size] for size in sizes]
    cross = [RNG.normal(size=(size, columns)).astype(np.float32) for size in sizes]
    together = engine.rank(histories, users, items, cross)
    assert [len(scores) for scores in together] == list(sizes)
    for row in range(3):
        one = slice(row, row + 1)
        alone = engine.rank(histories[one], users[one], items[one], cross[one])[0]
        assert alone.tobytes() == together[row].tobytes()


def test_a_user_vector_is_calculated_once_until_the_history_changes(engine: Engine) -> None:
    """By counting the rows that the user tower is run on."""
    counted = CountingTower(engine.user_tower)
    keeping = replace(engine, user_tower=cast(Any, counted), kept_vectors=Kept(1 << 20))
    histories = [history(1, 2, 3), history(4), history(5, 6)]
    first = keeping.user_vectors(histories[:2])
    again = keeping.user_vectors(histories[::-1])  # one is new, and stands first
    assert counted.rows == [2, 1]
    np.testing.assert_array_equal(again[1:], first[::-1])
    np.testing.assert_array_equal(again, keeping.user_vectors(histories[::-1]))
    np.testing.assert_allclose(again, engine.user_vectors(histories[::-1]), rtol=1e-6)
    assert counted.rows == [2, 1]
    keeping.user_vectors([history(1, 2, 3, 9)])  # an event
    keeping.user_vectors([history(3, 2, 1)])  # another order
    together = History(np.array([1, 2, 3]), np.full(3, 1_000_000, np.int64))  # the same items as one set
    keeping.user_vectors([together])
    assert counted.rows == [2, 1, 1, 1, 1]


def test_without_memory_no_user_vector_is_kept(engine: Engine) -> None:
    counted = CountingTower(engine.user_tower)
    forgetful = replace(engine, user_tower=cast(Any, counted), kept_vectors=Kept(0))
    forgetful.user_vectors([history(1)])
    forgetful.user_vectors([history(1)])
    assert counted.rows == [1, 1]


class CountingTower:
    """The bundle's own user tower; it remembers how many users each run had."""

    def __init__(self, tower: onnxruntime.InferenceSession) -> None:
        self._tower = tower
        self.rows: list[int] = []

    def run(self, names: None, inputs: dict[str, NDArray[Any]]) -> Any:
        self.rows.append(len(inputs["history"]))
        return self._tower.run(names, inputs)
