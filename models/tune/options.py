"""`[tune]` of `shortlist.toml`: what `shortlist tune` searches, and how long.

[tune]        trials and stage
[tune.space]  a key of the stage's section each: { low, high, log } or a list of choices
"""

from typing import Any, Literal

from pydantic import Field

from models.section import Section

Stage = Literal["retrieval", "ranker"]


class RangeSection(Section):
    low: float
    high: float
    log: bool = Field(default=False, description="as many trials between 0.001 and 0.01 as between 0.01 and 0.1")


class TuneSection(Section):
    trials: int = Field(default=30, ge=1, le=10_000, description="of the study in all, those already made included")
    stage: Stage = Field(
        default="retrieval", description="the ranker is searched with the retrieval model of [train.retrieval]"
    )
    space: dict[str, Any] = Field(
        default={}, description="{ low = 1e-4, high = 1e-2, log = true } or [32, 64]; a space for the model if left out"
    )
