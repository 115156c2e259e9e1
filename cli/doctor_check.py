"""One finding of `shortlist doctor`."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """found: what is the case.  advice: what to do next; empty when all is well."""

    name: str
    status: Status
    found: str
    advice: str = ""
