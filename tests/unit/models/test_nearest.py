"""The exact search finds what sorting all scores finds, ties by item index."""

import numpy as np
import pytest

from models.offline import all_nearest, exact_nearest


@pytest.mark.parametrize("num_items", [1, 63, 64, 200, 1000])
@pytest.mark.parametrize("limit", [0, 1, 3, 10, 700])
def test_it_is_the_head_of_all_scores_sorted(num_items: int, limit: int) -> None:
    """Small whole numbers: many scores are equal, and every product is exact."""
    rng = np.random.default_rng([num_items, limit])
    items = rng.integers(-2, 3, (num_items, 4)).astype(np.float32)
    users = rng.integers(-2, 3, (5, 4)).astype(np.float32)
    lists = all_nearest(items, users, limit)
    for user, found in zip(users, lists, strict=True):
        order = np.argsort(-(items @ user), kind="stable")
        assert found.tolist() == order[:limit].tolist()
        for share in (0.02, 0.5, 1.0):
            allowed = rng.random(num_items) < share
            expected = order[allowed[order]][:limit]
            assert exact_nearest(items, user, allowed, limit).tolist() == expected.tolist()


def test_users_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    items, users = rng.integers(-3, 4, (300, 4)).astype(np.float32), rng.integers(-3, 4, (7, 4)).astype(np.float32)
    whole = [found.tolist() for found in all_nearest(items, users, 20)]
    for cells in (1, 600, 300 * 7):
        monkeypatch.setattr("models.offline._BLOCK_CELLS", cells)
        assert [found.tolist() for found in all_nearest(items, users, 20)] == whole
