"""The planted shop has the structure it claims, so that a model that does not find it is at fault."""

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planted import PlantedTruth, write_planted

from models.data.config import load_config
from models.data.prepare import prepare_dataset

Baskets = dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> PlantedTruth:
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def baskets(truth: PlantedTruth) -> Baskets:
    """Of every user, in order of time."""
    rows = pq.read_table(truth.config.parent / "interactions.parquet").sort_by("time").to_pylist()
    of_user: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        of_user[row["user_id"]][row["basket"]].append(row["item_id"])
    return {user: list(baskets.values()) for user, baskets in of_user.items()}


def test_its_size(truth: PlantedTruth, baskets: Baskets) -> None:
    assert 14_000 < truth.num_interactions < 16_000
    assert len(baskets) == 300
    assert len(truth.partners) >= 30


def test_lines_of_a_basket_share_a_time_and_are_sorted_by_item(baskets: Baskets) -> None:
    assert all(basket == sorted(set(basket)) for user in baskets.values() for basket in user)


def test_a_partner_follows_in_the_next_basket(truth: PlantedTruth, baskets: Baskets) -> None:
    """Four times of five, over about 1,500 chances; and never without its first."""
    followed: Counter[bool] = Counter()
    for user in baskets.values():
        for before, after in itertools.pairwise(user):
            followed.update(truth.partners[item] in after for item in before if item in truth.partners)
    assert followed[True] + followed[False] > 1000
    assert abs(followed[True] / followed.total() - 0.8) < 0.04
    seconds = set(truth.partners.values())
    assert not any(item in seconds for user in baskets.values() for item in user[0])


def test_favourites_and_rebuys_fill_most_of_a_basket(truth: PlantedTruth, baskets: Baskets) -> None:
    lines = [(user, item) for user, owned in baskets.items() for basket in owned for item in basket]
    favourite = sum(truth.categories[item] in truth.favourites[user] for user, item in lines) / len(lines)
    rebought = sum(item in truth.rebuys[user] for user, item in lines) / len(lines)
    popular = sum(item in truth.popular for _, item in lines) / len(lines)
    assert favourite > 0.6
    assert rebought > 0.3
    assert 0.1 < popular < 0.2
    assert all(truth.categories[item] in truth.favourites[user] for user in truth.rebuys for item in truth.rebuys[user])


def test_the_same_seed_gives_the_same_shop_and_another_seed_another(truth: PlantedTruth, tmp_path: Path) -> None:
    again, other = write_planted(tmp_path / "same"), write_planted(tmp_path / "other", seed=1)
    log = pq.read_table(truth.config.parent / "interactions.parquet")
    assert pq.read_table(again.config.parent / "interactions.parquet").equals(log)
    assert other.rebuys != truth.rebuys


def test_it_can_be_prepared(truth: PlantedTruth, tmp_path: Path) -> None:
    report = prepare_dataset(load_config(truth.config), tmp_path).report
    assert report.num_interactions == truth.num_interactions
    assert (report.items_without_row, report.users_without_row) == (5, 150)
    assert len(truth.items_without_row) == 5
    assert all(count > 1000 for count in report.parts.values())
