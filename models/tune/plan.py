"""From `shortlist.toml` and the data to the plan of a search, and to the key of its study."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from models.data.config import Config
from models.data.config_errors import describe
from models.data.dataset import Dataset
from models.hardware import CPU, Hardware
from models.options import TrainSection
from models.stage_files import MODEL_VERSION
from models.tune.search import Plan
from models.tune.space import Value, read_space
from models.tune.trials import RankerTrials, RetrievalTrials

WORK = "work"  # the checkpoint of the running trial


def make_plan(config: Config, dataset: Dataset, data_dir: Path, hardware: Hardware = CPU) -> Plan:
    """Raises ValueError for data or options that no trial could be trained with."""
    stage, space = config.tune.stage, read_space(config.tune, config.train)
    folder = data_dir / "tune" / WORK
    trials = (
        RetrievalTrials(dataset, folder, hardware)
        if stage == "retrieval"
        else RankerTrials(dataset, folder, data_dir / "train", hardware)
    )
    trials.check(config.train)

    def with_values(values: dict[str, Value]) -> TrainSection:
        return options_with(config, values)

    return Plan(stage, config.train.seed, space, base_values(config), with_values, trials, trials.clear)


def study_key(config: Config, dataset: Dataset) -> str:
    """Names the data, the space, and every option but those searched: with another key a study starts anew.

    So the best values may be taken over into shortlist.toml, and the search still goes on.
    """
    stage, space = config.tune.stage, read_space(config.tune, config.train)
    options = config.train.model_dump(mode="json", exclude={"ranker"} if stage == "retrieval" else set())
    for key in space:
        options[stage].pop(key, None)  # a section may leave out what was not set
    told = (MODEL_VERSION, dataset.fingerprint, dataset.splits, stage, space, orjson.dumps(options).decode())
    return sha256(repr(told).encode()).hexdigest()


def base_values(config: Config) -> dict[str, Value]:
    """Of the searched keys, as shortlist.toml has them."""
    section = getattr(config.train, config.tune.stage)
    return {key: getattr(section, key) for key in read_space(config.tune, config.train)}


def options_with(config: Config, values: dict[str, Value]) -> TrainSection:
    """All options, with these in the section that is searched. Raises ValueError as the configuration would be refused
    with them."""
    raw: dict[str, Any] = config.model_dump(exclude_unset=True)
    train = raw.get("train", {})
    section = section_of(config) | values
    try:
        return Config.model_validate({**raw, "train": {**train, config.tune.stage: section}}).train
    except ValidationError as error:
        problems = describe(error, Path("shortlist.toml"), Config)
        raise ValueError(problems.removeprefix("shortlist.toml: ")) from error


def section_of(config: Config) -> dict[str, Any]:
    """The section that is searched as shortlist.toml has it, with its model."""
    section = getattr(config.train, config.tune.stage)
    told: dict[str, Any] = section.model_dump(exclude_unset=True)
    return {"model": section.model} | told
