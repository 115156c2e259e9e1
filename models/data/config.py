"""`shortlist.toml` as one frozen pydantic model: what its sections say together, and how the file is read."""

import tomllib
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, ValidationError, model_validator

from models.compress.options import CompressSection
from models.data.config_errors import describe
from models.data.errors import ConfigError
from models.data.sections import (
    EventsSection,
    FeaturesSection,
    ImpressionsSection,
    InteractionsSection,
    ItemEdgesSection,
    ItemsSection,
    LabelledSection,
    LimitsSection,
    SocialSection,
    SplitSection,
    StateSection,
    UsersSection,
)
from models.options import TrainSection
from models.ranking.options import RankerName
from models.section import Section
from models.tune.options import TuneSection
from models.tune.space import read_space

SOURCES = ("interactions", "items", "users", "social", "item_edges", "impressions")  # the sections that have a path
LABELLED_PATHS = ("train", "valid", "test")


class Config(Section):
    """Everything in `shortlist.toml`. Paths are absolute once `load_config` has read them."""

    interactions: InteractionsSection | None = Field(default=None, description="this or labelled")
    labelled: LabelledSection | None = None
    items: ItemsSection | None = None
    users: UsersSection | None = None
    social: SocialSection | None = None
    item_edges: ItemEdgesSection | None = None
    impressions: ImpressionsSection | None = None
    features: FeaturesSection = FeaturesSection()
    events: EventsSection = EventsSection()
    split: SplitSection = SplitSection()
    limits: LimitsSection = LimitsSection()
    state: StateSection = StateSection()
    train: TrainSection = TrainSection()
    compress: CompressSection = CompressSection()
    tune: TuneSection = TuneSection()

    @property
    def log(self) -> InteractionsSection:
        """[interactions]. Raises ConfigError where the configuration is of a labelled table."""
        if self.interactions is None:
            raise ConfigError("[labelled] is a table to train a ranking model on, and no log: run `shortlist train`")
        return self.interactions

    @model_validator(mode="after")
    def _a_log_or_a_labelled_table(self) -> Self:
        if self.labelled is None and self.interactions is None:
            raise ValueError("interactions is missing (or labelled, for a ready-made table of a ranking model)")
        also = [name for name in SOURCES if self.labelled and getattr(self, name)]
        if also:
            raise ValueError(f"labelled has its features in the table itself; leave out {', '.join(also)}")
        return self

    @model_validator(mode="after")
    def _impressions_have_their_times(self) -> Self:
        if self.impressions and self.split.kind != "time":
            raise ValueError(
                f"impressions have real times, and a {self.split.kind} split rewrites those of the interactions, so "
                'that no click would be found again; set [split] kind = "time", or leave [impressions] out'
            )
        asked = self.train.ranker.asks_for_impressions
        if asked and self.impressions is None:
            where = "a labelled table has none" if self.labelled else "name their file in a section [impressions]"
            raise ValueError(f"train.ranker.{asked} needs logged impressions: {where}")
        return self

    @model_validator(mode="after")
    def _the_ranker_fits_what_it_learns_from(self) -> Self:
        ranker = self.train.ranker
        if self.labelled is None:
            if ranker.loss == "squared" and ranker.model != "none":
                raise ValueError(
                    'train.ranker.loss = "squared" learns the ratings of a table in [labelled], and a log tells only '
                    "what was taken: choose log_loss, bpr or softmax"
                )
            return self
        if ranker.model == "none":
            known = ", ".join(name for name in get_args(RankerName) if name not in ("none", "transformer"))
            raise ValueError(
                f'train.ranker.model = "none" leaves nothing to train on a labelled table; set it to {known}'
            )
        if ranker.learn_from == "interactions":
            raise ValueError('train.ranker.learn_from = "interactions" is of a log; leave it out')
        return self

    @model_validator(mode="after")
    def _the_model_has_what_is_searched(self) -> Self:
        if "tune" in self.model_fields_set:
            read_space(self.tune, self.train)
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if self.interactions is None:
            return self
        categorical = {f.name for f in self.items.features if f.kind == "categorical"} if self.items else set()
        affinity = self.items.affinity if self.items else []
        _require_subset("items.affinity", affinity, categorical, "a categorical feature of [items]")
        if self.interactions.time_unit == "position" and self.split.kind == "time":
            raise ValueError(
                'interactions.time_unit = "position" is no time to split by; set [split] kind = "leave-last-out" or '
                '"random"'
            )
        context = set(self.interactions.context)
        _require_subset("features.context", self.features.context, context, "listed in interactions.context")
        for name, columns in self._lists():
            repeated = sorted({column for column in columns if columns.count(column) > 1})
            if repeated:
                raise ValueError(f"{name} lists {', '.join(repeated)} twice")
        return self

    def _lists(self) -> list[tuple[str, list[str]]]:
        lists = [
            ("interactions.context", self.log.context),
            ("interactions.numeric", self.log.numeric),
            ("features.context", self.features.context),
        ]
        if self.items:
            lists.append(("items.features", [feature.name for feature in self.items.features]))
            lists += [(f"items.{key}", getattr(self.items, key)) for key in ("returned", "filterable", "affinity")]
        if self.users:
            lists.append(("users.features", [feature.name for feature in self.users.features]))
        return lists


def load_config(path: Path) -> Config:
    """Read `shortlist.toml`; relative paths in it are relative to its folder.

    Raises ConfigError: the message names the file, the key and, for an unknown key, the key that was probably meant.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); pass the path of a shortlist.toml") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    for section, key in [*((name, "path") for name in SOURCES), *(("labelled", key) for key in LABELLED_PATHS)]:
        source = raw.get(section)
        if isinstance(source, dict) and isinstance(source.get(key), str) and source[key]:
            source[key] = str(path.parent.absolute() / source[key])
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(describe(error, path, Config)) from error


def _require_subset(key: str, names: list[str], allowed: set[str], what: str) -> None:
    for name in names:
        if name not in allowed:
            raise ValueError(f"{key}: {name!r} is not {what}")
