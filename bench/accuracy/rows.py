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
    movielens: Literal["leave-last-out", "random", "time"] | None = None


class Row(Section):
    """name: of the file <name>.toml with the [train] sections.  system: of the evaluation's report.

    published: figures of others by metric, under the same protocol.  against: rows to compare with user by user.
    """

    name: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    model: str
    system: str
    mode: Literal["all", "new", "labelled"] = "new"
    metrics: list[str]
    seeds: list[int] = Field(min_length=1)
    published: dict[str, float] = Field(default={})
    against: list[str] = Field(default=[])

    @property
    def data(self) -> str:
        return self.name.split("/")[0]


class Table(Section):
    data: dict[str, DataSet]
    row: list[Row]


def read_table() -> Table:
    return Table.model_validate(tomllib.loads((FOLDER / "rows.toml").read_text("utf-8")))


def data_sections(name: str, data_set: DataSet, data: Path, work: Path) -> str:
    """What the shortlist.toml of every row of a data set says of the data.

    data: the folder that the user names.  work: where sources that have to be converted are kept.
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
