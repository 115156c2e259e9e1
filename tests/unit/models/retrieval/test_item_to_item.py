"""Cosine and BM25 against plain loops."""

from math import log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from models.options import ItemToItemOptions
from models.positives import Positives
from models.retrieval import item_to_item
from models.retrieval.item_to_item import item_weights
from models.retrieval.pairs import user_item_matrix

TAKEN = np.random.default_rng(2).random((30, 12)) < 0.3
TAKEN[:, 11] = False  # nobody has it


def options(**changes: object) -> ItemToItemOptions:
    return ItemToItemOptions.model_validate({"model": "item_to_item", **changes})


def found(chosen: ItemToItemOptions) -> NDArray[np.float32]:
    users, items = np.nonzero(TAKEN)
    dense: NDArray[np.float32] = (
        item_weights(user_item_matrix(Positives.of(users, items, *TAKEN.shape)), chosen).to_dense().numpy()
    )
    return dense


def test_cosine_is_users_in_common_over_the_geometric_mean() -> None:
    expected = np.zeros((12, 12))
    for one in range(12):
        for other in range(12):
            common = sum(TAKEN[user, one] and TAKEN[user, other] for user in range(30))
            if one != other and common:
                expected[one, other] = common / sqrt(TAKEN[:, one].sum() * TAKEN[:, other].sum())
                expected[one, other] *= common / (common + 2.0)
    np.testing.assert_allclose(found(options(shrinkage=2.0)), expected, rtol=1e-5)
    assert not found(options())[11].any()


def test_bm25_is_the_product_of_the_weighted_columns() -> None:
    lengths = TAKEN.sum(1)
    expected = np.zeros((12, 12))
    for one in range(12):
        for other in range(12):
            for user in range(30):
                if one != other and TAKEN[user, one] and TAKEN[user, other]:
                    saturation = 1.7 * (1 - 0.6 + 0.6 * lengths[user] / lengths.mean()) + 1
                    rarity = [log(30 / (1 + TAKEN[:, item].sum())) for item in (one, other)]
                    expected[one, other] += rarity[0] * rarity[1] * (2.7 / saturation) ** 2
    np.testing.assert_allclose(found(options(weighting="bm25", bm25_k1=1.7, bm25_b=0.6)), expected, rtol=1e-5)


@pytest.mark.parametrize("weighting", ["cosine", "bm25"])
@pytest.mark.parametrize("cells", [2**23, 60])
def test_only_the_most_similar_items_of_each_item_are_kept(
    weighting: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many columns at a time."""
    monkeypatch.setattr(item_to_item, "BLOCK_CELLS", cells)
    everything, few = found(options(weighting=weighting)), found(options(weighting=weighting, neighbours=3))
    for whole, kept in zip(everything, few, strict=True):
        assert (kept > 0).sum() == min(3, (whole > 0).sum())
        np.testing.assert_allclose(np.sort(kept)[-3:], np.sort(whole)[-3:], rtol=1e-6)
        np.testing.assert_allclose(kept[kept > 0], whole[kept > 0], rtol=1e-6)
