"""The space that a search is over: what `[tune.space]` says, checked against the keys of the model."""

from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from models.data.config_errors import suggestion
from models.options import TrainSection
from models.section import Section
from models.tune.defaults import default_space
from models.tune.options import RangeSection, TuneSection

Value = bool | int | float | str | list[Any]

# keys that decide what a trial is measured by, so that two trials could not be compared, or what others learn from
_FIXED = {
    "model": "one model is searched at a time",
    "validations": "trials are compared at their validations",
    "repeat_weight": "with it retrieval is measured on other items",
    "learn_from": "it changes what a ranker is measured on",
    "windows": "it changes what the retrieval model learns from",
    "propensity": "it weighs the clicks that a ranker is measured on",
    "max_weight": "it weighs the clicks that a ranker is measured on",
}


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from low to high, both included.  whole: integers alone.  log: even on a logarithmic scale."""

    low: float
    high: float
    log: bool
    whole: bool

    def has(self, value: Value) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Choice:
    values: tuple[Value, ...]

    def has(self, value: Value) -> bool:
        return value in self.values

    @property
    def names(self) -> list[bool | int | float | str]:
        """The values as a study can keep them: a list as its JSON."""
        return [orjson.dumps(value).decode() if isinstance(value, list) else value for value in self.values]


Space = dict[str, Range | Choice]


def read_space(tune: TuneSection, train: TrainSection) -> Space:
    """The space of the stage's model. Raises ValueError that names the first key that it cannot search."""
    section: Section = getattr(train, tune.stage)
    model = section.model_dump()["model"]
    if model == "none":
        raise ValueError('tune.stage = "ranker" searches a ranker, and [train.ranker] model = "none" has none')
    raw = tune.space or default_space(tune.stage, model)
    return {key: _part(f"tune.space.{key}", key, given, section, model, tune.stage) for key, given in raw.items()}


def _part(name: str, key: str, given: Any, section: Section, model: str, stage: str) -> Range | Choice:
    fields = type(section).model_fields
    if key not in fields:
        raise ValueError(f"{name}: not a key of {model}{suggestion(key, sorted(fields.keys() - _FIXED))}")
    if key in _FIXED:
        raise ValueError(f"{name}: {_FIXED[key]}; set {key} in [train.{stage}]")
    if isinstance(given, list):
        return _choice(name, key, given, section)
    if not isinstance(given, dict):
        raise ValueError(f"{name}: is {given!r}, and not {{ low = ..., high = ... }} or a list of choices")
    return _range(name, key, given, section)


def _choice(name: str, key: str, given: list[Any], section: Section) -> Choice:
    if not given:
        raise ValueError(f"{name}: has no choices")
    values: list[Value] = []
    for value in given:
        found = _valid(name, key, value, section)
        if found in values:
            raise ValueError(f"{name}: lists {value!r} twice")
        values.append(found)
    return Choice(tuple(values))


def _range(name: str, key: str, given: dict[str, Any], section: Section) -> Range:
    annotation = type(section).model_fields[key].annotation
    if annotation not in (int, float):
        raise ValueError(f"{name}: is no number; give a list of choices")
    try:
        ends = RangeSection.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        known = f"{name}.{problem['loc'][0]}" if problem["loc"] else name
        raise ValueError(f"{known}: {problem['msg']}; give low, high and, if you like, log") from error
    if not ends.low < ends.high:
        raise ValueError(f"{name}: low = {ends.low:g} is not below high = {ends.high:g}")
    if ends.log and ends.low <= 0:
        raise ValueError(f"{name}: log = true needs low above 0, not {ends.low:g}")
    for end in (ends.low, ends.high):
        _valid(name, key, end, section)
    return Range(ends.low, ends.high, ends.log, annotation is int)


def _valid(name: str, key: str, value: Any, section: Section) -> Value:
    """The value as the section takes it. What it must agree with in other keys is not asked: that is for each trial."""
    try:
        found: Value = getattr(type(section).model_validate(section.model_dump() | {key: value}), key)
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"]:
                raise ValueError(f"{name}: {problem['msg']}, not {problem['input']!r}") from error
        found = value
    return found
