"""Inputs and options that a ranking model cannot be built from, each with a sentence that names what is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.ranking.build import build
from models.ranking.inputs import MultiField, RankerInputs
from models.ranking.options import RankerOptions
from models.ranking.wide_deep import MAX_CODES, MAX_WEIGHTS

INPUTS = RankerInputs({"age": 4, "shop": 3}, 0, {"genre": 5, "shop": 3}, 0, 0)


def refused(inputs: RankerInputs, message: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=message):
        build(inputs, RankerOptions(**options))


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
def test_ncf_without_the_ids_as_features(model: str) -> None:
    refused(INPUTS, r"needs 'user_id' as a .* of the user: set id_feature = true in \[users\]", model=model)
    only_user = RankerInputs({"user_id": 4}, 0, {"genre": 5}, 0, 0)
    refused(only_user, r"needs 'item_id' as a .* of the item: set id_feature = true in \[items\]", model=model)


def test_crosses_of_features_that_are_not_there_or_are_there_twice() -> None:
    refused(
        INPUTS, "no categorical feature 'colour'; there are: age, shop", model="wide_deep", crosses=[["age", "colour"]]
    )
    refused(INPUTS, "'shop' is a feature of users and of items", model="wide_deep", crosses=[["age", "shop"]])
    refused(INPUTS, "'age' with 'age': name two features", model="wide_deep", crosses=[["age", "age"]])
    several = INPUTS._replace(item_multi={"genres": MultiField(4, 2)})
    refused(several, "'genres' has several values an item", model="wide_deep", crosses=[["age", "genres"]])


def test_crosses_with_more_combinations_than_are_kept() -> None:
    most = RankerInputs({"user_id": MAX_CODES + 1, "age": MAX_CODES}, 0, {"item_id": MAX_CODES + 1}, 0, 0)
    ids = [["user_id", "item_id"]]
    refused(most, r"the smaller has 2,001 values, at most 2,000", model="wide_deep", crosses=ids)
    build(most, RankerOptions(model="wide_deep", crosses=[["item_id", "age"]], hidden=[1]))
    wide = RankerInputs({"user_id": MAX_WEIGHTS, "age": 2}, 0, {}, 0, 0)
    ages = [["user_id", "age"]]
    refused(wide, r"20,000,000 x 2 combinations, at most 20,000,000", model="wide_deep", crosses=ages)


def test_rows_larger_than_are_served() -> None:
    """The user's row of this FM is its own score and dim numbers; FFM's has a vector for each pair."""
    many = RankerInputs({}, 30, {}, 30, 0)
    refused(many, "row of each user would have 4,501 numbers, at most 4,096", model="ffm", dim=5)
    build(many, RankerOptions(model="ffm", dim=4))


def test_crosses_for_a_model_without_a_wide_part() -> None:
    with pytest.raises(ValidationError, match='crosses are for model = "wide_deep"; model = "fm" has no use'):
        RankerOptions(model="fm", crosses=[["age", "genre"]])
    with pytest.raises(ValidationError, match="at least 2 items"):
        RankerOptions(model="wide_deep", crosses=[["age"]])


def test_a_name_that_is_no_model_of_this_kind() -> None:
    refused(INPUTS, "model = 'none' is not built here; one of lr, fm", model="none")


def test_impressions_and_propensities_where_they_have_no_use() -> None:
    with pytest.raises(ValidationError, match='propensity weighs clicks, and loss = "squared" is for ratings'):
        RankerOptions(propensity="position", loss="squared")
    with pytest.raises(
        ValidationError, match='propensity is for candidate lists; leave it out, or learn_from = "inter'
    ):
        RankerOptions(propensity="position", learn_from="interactions")
    with pytest.raises(ValidationError, match="impressions is for candidate lists"):
        RankerOptions(impressions=True, learn_from="interactions")
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        RankerOptions(propensity="position", max_weight=0.9)
    assert RankerOptions(impressions=True, loss="squared").asks_for_impressions == "impressions"
