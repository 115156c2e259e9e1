"""From shortlist.toml and a trial's values to options: what the file would be refused with fails the trial."""

from pathlib import Path

import pytest

from models.data.config import Config, load_config
from models.tune.plan import base_values, options_with, section_of

TOML = """
[interactions]
path = "x.csv"

[train]
seed = 3

[train.retrieval]
heads = 4

[train.ranker]
epochs = 2
"""


def read(tmp_path: Path, tune: str) -> Config:
    path = tmp_path / "shortlist.toml"
    path.write_text(TOML + tune)
    return load_config(path)


def test_only_the_searched_keys_change(tmp_path: Path) -> None:
    config = read(tmp_path, "[tune.space]\nlearning_rate = [0.1, 0.01]\nfeed_units = [32, 64]\n")
    assert base_values(config) == {"learning_rate": 2e-3, "feed_units": None}
    assert section_of(config) == {"model": "sasrec", "heads": 4}
    options = options_with(config, {"learning_rate": 0.1, "feed_units": 32})
    expected = config.train.retrieval.model_copy(update={"learning_rate": 0.1, "feed_units": 32})
    assert options == config.train.model_copy(update={"retrieval": expected})
    assert options_with(config, base_values(config)) == config.train


@pytest.mark.parametrize(
    ("tune", "values", "message"),
    [
        ("[tune]\n", {"dim": 66}, "train.retrieval: dim = 66 is not a multiple of heads = 4"),
        (
            '[tune]\nstage = "ranker"\n',
            {"loss": "squared"},
            'train.ranker.loss = "squared" learns the ratings of a table',
        ),
        ('[tune]\nstage = "ranker"\n', {"impressions": True}, "train.ranker.impressions needs logged impressions"),
    ],
)
def test_values_that_the_file_would_be_refused_with_are_named(
    tmp_path: Path, tune: str, values: dict[str, int | str | bool], message: str
) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011 - the whole message is compared
        options_with(read(tmp_path, tune), {**values})
    assert str(found.value).startswith(message)
