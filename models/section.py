"""The base of every part of `shortlist.toml`: frozen, and an unknown key is an error."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Units = Annotated[int, Field(ge=1, le=8192)]  # of a layer


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
