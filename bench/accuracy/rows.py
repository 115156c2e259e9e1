"""The rows of the accuracy table: rows.toml says what is measured, a file a row how the model is trained."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from models.section import Section

FOLDER = Path(__file__).parent
DEMO = "demo"
# names in the table, and in the report of `shortlist evaluate`
METRICS = {"hr@10": "hit_rate@10", "ndcg@10": "ndcg@10", "recall@10": "recall@10", "recall@20": "recall@20"}


class DataSet(Section):
    """folder: below the folder that the user names; the demo's data come from its package.

    movielens: read by `shortlist movielens` for this protocol; else <data set>/data.toml names the files.
    """

    folder: str = ""
    protocol: str
    movielens: Literal["leave-last-out", "time"] | None = None


Mode = Literal["all", "new", "labelled"]
MODE_SUFFIXES: dict[Mode, str] = {"new": "; new items", "all": "; all items"}  # of the protocol in results.json


class Row(Section):
    """name: of the file <name>.toml with the [train] sections.  system: of the evaluation's report.

    modes: parts of the report: targets that the user never took before, all targets, or the rows of a labelled table.
    published: figures of others by metric, under the same protocol, for a row with one mode.  to_reach: where that is
    another figure, what the row is to reach; to_reach_all: in mode `all`.  against: what to compare with user by user:
    other rows, which have a slash in their names, and systems of the row's own report, such as its baselines.
    """

    name: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    model: str
    system: str
    modes: list[Mode] = Field(default=["new"], min_length=1)
    metrics: list[str]
    seeds: list[int] = Field(min_length=1)
    published: dict[str, float] = Field(default={})
    to_reach: dict[str, float] = Field(default={})
    to_reach_all: dict[str, float] = Field(default={})
    against: list[str] = Field(default=[])

    @property
    def data(self) -> str:
        return self.name.split("/")[0]

    def level_to_reach(self, mode: Mode, metric: str) -> float | None:
        return (self.to_reach_all if mode == "all" else self.to_reach).get(metric)


class Table(Section):
    data: dict[str, DataSet]
    row: list[Row]


def protocol(data_set: DataSet, row: Row, mode: Mode) -> str:
    """As results.json names it: where a row is measured on several kinds of targets, it says on which."""
    return data_set.protocol + mode_suffix(row, mode)


def mode_suffix(row: Row, mode: Mode) -> str:
    return MODE_SUFFIXES[mode] if len(row.modes) > 1 else ""


def read_table() -> Table:
    return Table.model_validate(tomllib.loads((FOLDER / "rows.toml").read_text("utf-8")))


def data_sections(name: str, data_set: DataSet, data: Path, work: Path) -> str:
    """What the shortlist.toml of every row of a data set says of the data.

    data: the folder that the user names.  work: where sources that have to be converted are kept.  Raises DataError
    for one of those that is missing or unreadable.
    """
    from models.data.demo import write_demo_sources
    from models.data.movielens import write_movielens

    if name == DEMO:
        return _sections(write_demo_sources(work / name / "source"))
    if data_set.movielens is not None:
        return _sections(write_movielens(data / data_set.folder, work / name / "source", data_set.movielens).config)
    return (FOLDER / name / "data.toml").read_text("utf-8").replace("{data}", (data / data_set.folder).as_posix())


def configuration(row: Row, seed: int, sections: str) -> str:
    """The shortlist.toml of a run: what it says of the data, then of the training."""
    return f"{sections}\n{(FOLDER / f'{row.name}.toml').read_text('utf-8').replace('{seed}', str(seed))}"


def _sections(config: Path) -> str:
    """A written configuration without its [train], its paths made absolute."""
    text = config.read_text("utf-8").partition("[train]")[0]
    return text.replace('path = "', f'path = "{config.parent.absolute().as_posix()}/')
