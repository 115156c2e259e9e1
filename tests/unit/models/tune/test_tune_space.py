"""What `[tune.space]` may say: every refusal names its key, and each model has a space of its own."""

from pathlib import Path
from typing import Any, get_args

import pytest

from models.data.config import load_config
from models.data.errors import ConfigError
from models.options import TrainSection
from models.ranking.options import RankerName
from models.tune.defaults import RETRIEVAL
from models.tune.options import TuneSection
from models.tune.space import Choice, Range, read_space


def test_ranges_and_choices_are_of_the_key_s_kind() -> None:
    raw: dict[str, Any] = {
        "learning_rate": {"low": 1e-4, "high": 1, "log": True},
        "layers": {"low": 1, "high": 3},
        "dim": [32, 64],
    }
    assert read_space(TuneSection(space=raw), TrainSection()) == {
        "learning_rate": Range(1e-4, 1.0, log=True, whole=False),
        "layers": Range(1, 3, log=False, whole=True),
        "dim": Choice((32, 64)),
    }


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"dmi": [32]}, "tune.space.dmi: not a key of sasrec; did you mean 'dim'?"),
        ({"dim": 32}, "tune.space.dim: is 32, and not { low = ..., high = ... } or a list of choices"),
        ({"dim": []}, "tune.space.dim: has no choices"),
        ({"dim": [32, 64, 32]}, "tune.space.dim: lists 32 twice"),
        ({"dim": [2]}, "tune.space.dim: Input should be greater than or equal to 4, not 2"),
        ({"dim": {"low": 64, "high": 32}}, "tune.space.dim: low = 64 is not below high = 32"),
        ({"dim": {"low": 64, "high": 64}}, "tune.space.dim: low = 64 is not below high = 64"),
        ({"dim": {"low": 32}}, "tune.space.dim.high: Field required; give low, high and, if you like, log"),
        ({"dim": {"low": 8, "high": 16.5}}, "tune.space.dim: Input should be a valid integer, got a number with a"),
        ({"dropout": {"low": 0, "high": 1}}, "tune.space.dropout: Input should be less than 1, not 1"),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "tune.space.dropout: log = true needs low above 0, not 0"),
        ({"loss": {"low": 1, "high": 2}}, "tune.space.loss: is no number; give a list of choices"),
        ({"model": ["ease"]}, "tune.space.model: one model is searched at a time; set model in [train.retrieval]"),
        ({"repeat_weight": [0, 1]}, "tune.space.repeat_weight: with it retrieval is measured on other items; set"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_its_name(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011 - the whole message is compared
        read_space(TuneSection(space=space), TrainSection())
    assert str(found.value).startswith(message)


def test_a_configuration_is_refused_with_its_file(tmp_path: Path) -> None:
    """Before anything is prepared; and a search of a ranker that is not there."""
    path = tmp_path / "shortlist.toml"
    path.write_text('[interactions]\npath = "x.csv"\n[tune.space]\ndmi = [32]\n')
    with pytest.raises(ConfigError, match=r"shortlist\.toml: tune\.space\.dmi: not a key of sasrec"):
        load_config(path)
    path.write_text('[interactions]\npath = "x.csv"\n[train.ranker]\nmodel = "none"\n[tune]\nstage = "ranker"\n')
    with pytest.raises(ConfigError, match=r'\[train\.ranker\] model = "none" has none'):
        load_config(path)


def test_values_that_only_go_together_with_others_are_left_to_the_trial() -> None:
    """dim = 33 is no multiple of heads = 2; with heads = 3 it would be."""
    assert read_space(TuneSection(space={"dim": [33, 64]}), TrainSection()) == {"dim": Choice((33, 64))}


@pytest.mark.parametrize("model", get_args(TrainSection.model_fields["retrieval"].annotation) or ())
def test_every_retrieval_model_has_a_space(model: type) -> None:
    name = get_args(model.model_fields["model"].annotation)[0]  # type: ignore[attr-defined]
    train = TrainSection.model_validate({"retrieval": {"model": name}})
    assert read_space(TuneSection(), train).keys() == RETRIEVAL[name].keys()


@pytest.mark.parametrize("model", [name for name in get_args(RankerName) if name != "none"])
def test_every_ranker_has_a_space(model: str) -> None:
    train = TrainSection.model_validate({"ranker": {"model": model}})
    assert "learning_rate" in read_space(TuneSection(stage="ranker"), train)
