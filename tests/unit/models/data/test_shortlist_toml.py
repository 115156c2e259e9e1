"""shortlist.toml: what is refused, and in which words."""

from pathlib import Path

import pytest

from models.data.config import load_config
from models.data.errors import ConfigError
from models.options import SasRecOptions, TrainSection
from models.ranking.options import RankerOptions

MINIMAL = '[interactions]\npath = "log.csv"\n'


def refused(folder: Path, text: str) -> str:
    path = folder / "shortlist.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_minimal_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    """Only the path of the interactions is needed, and it is taken relative to the file."""
    (tmp_path / "shortlist.toml").write_text(MINIMAL)
    config = load_config(tmp_path / "shortlist.toml")
    assert config.log.path == str(tmp_path / "log.csv")
    assert (config.log.user_id, config.log.default_event_type) == ("user_id", "purchase")
    assert (config.split.kind, config.split.test_days, config.split.num_ranker_windows) == ("time", 28, 4)
    assert (config.limits.min_users, config.limits.max_bad_share) == (1, 0.01)
    retrieval = SasRecOptions(dim=64, layers=2, heads=2, history_length=100, max_steps=2000, patience=3)
    assert config.train == TrainSection(retrieval=retrieval, ranker=RankerOptions(model="deepfm", dim=16, epochs=3))


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    (tmp_path / "shortlist.toml").write_text('[interactions]\npath = "/data/log.parquet"\n')
    assert load_config(tmp_path / "shortlist.toml").log.path == "/data/log.parquet"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MINIMAL + 'usr_id = "u"\n', "unknown key 'interactions.usr_id'; did you mean 'user_id'?"),
        (MINIMAL + "[spilt]\n", "unknown key 'spilt'; did you mean 'split'?"),
        (MINIMAL + "[train]\nsed = 1\n", "unknown key 'train.sed'; did you mean 'seed'?"),
        (
            MINIMAL + "[train.retrieval]\nlearning_rat = 1\n",
            "unknown key 'train.retrieval.learning_rat'; did you mean 'learning_rate'?",
        ),
        (
            MINIMAL + '[train.retrieval]\nmodel = "ease"\nlayers = 1\n',
            "unknown key 'train.retrieval.layers'; known here: dim, history_length, model, regularization",
        ),
        (
            MINIMAL + '[train.retrieval]\nmodel = "esae"\n',
            "train.retrieval.model: 'esae' is unknown; did you mean 'ease'?",
        ),
        (
            MINIMAL + '[items]\npath = "i.csv"\nfeatures = [{name = "a", kind = "categorical", mincount = 2}]\n',
            "unknown key 'items.features.0.mincount'; did you mean 'min_count'?",
        ),
        (
            MINIMAL + '[items]\npath = "i.csv"\nfeatures = [{name = "a", kind = "numeric", min_count = 2}]\n',
            "unknown key 'items.features.0.min_count'; known here: kind, name",
        ),
        (MINIMAL + "[events]\nzzz = 1\n", "unknown key 'events.zzz'; known here: seen, types"),
        ('[items]\npath = "i.csv"\n', "interactions is missing"),
        (MINIMAL + "[limits]\nmax_bad_share = 1.5\n", "limits.max_bad_share: Input should be less than or equal to 1"),
        (
            MINIMAL + "[train.retrieval]\ndim = 66\nheads = 4\n",
            "train.retrieval: dim = 66 is not a multiple of heads = 4",
        ),
        (
            MINIMAL + '[items]\npath = "i.csv"\naffinity = ["genre"]\n',
            "items.affinity: 'genre' is not a categorical feature of [items]",
        ),
        (MINIMAL + '[features]\ncontext = ["x"]\n', "features.context: 'x' is not listed in interactions.context"),
        (MINIMAL + 'context = ["a", "a"]\n', "interactions.context lists a twice"),
        (MINIMAL + "min_value = 3\n", "interactions: min_value needs the column to compare: set value"),
        (
            MINIMAL + 'time_unit = "position"\n',
            'interactions.time_unit = "position" is no time to split by; set [split] kind = ',
        ),
        (
            MINIMAL + '[split]\nkind = "random"\nranker_windows = 1\n',
            "split: ranker_windows = 1, but in a random split nothing is earlier than validation; leave it out",
        ),
        (
            MINIMAL + '[train.ranker]\nloss = "squared"\n',
            'train.ranker.loss = "squared" learns the ratings of a table in [labelled]',
        ),
        (
            MINIMAL + '[train.ranker]\nlearn_from = "interactions"\nnegatives = 0\n',
            'train.ranker: negatives = 0 leaves learn_from = "interactions" nothing to tell apart',
        ),
        (
            MINIMAL + '[train.retrieval]\nmodel = "two_tower"\nhidden = [-5]\n',
            "train.retrieval.hidden.0: Input should be greater than or equal to 1",
        ),
        (MINIMAL + 'context = ["../a"]\n', "interactions.context.0: String should match pattern"),
        (MINIMAL + "[split\n", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    assert refused(tmp_path, text).startswith(sentence)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    lines = refused(tmp_path, MINIMAL + "[split]\ntest_day = 1\nkind = 'weekly'\n").splitlines()
    assert len(lines) == 2
    assert "did you mean 'test_days'" in lines[1]
    assert "split.kind" in lines[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read \(No such file or directory\)"):
        load_config(tmp_path / "nothing.toml")
