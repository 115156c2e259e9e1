"""Sentences for what pydantic found wrong in `shortlist.toml`."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def describe(error: ValidationError, path: Path, model: type[BaseModel]) -> str:
    """One sentence a problem, each naming the file and the key."""
    return "\n".join(f"{path}: {_sentence(problem, model)}" for problem in error.errors())


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> str:
    names = [part for part in problem["loc"] if part not in ("categorical", "numeric")]
    key = ".".join(str(part) for part in names)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{suggestion(str(problem['loc'][-1]), _siblings(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    return f"{key}: {problem['msg']}, not {problem['input']!r}"


def suggestion(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _siblings(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys that the table at `loc` may have."""
    found: list[type[BaseModel]] = [model]
    for part in loc:
        if part in ("categorical", "numeric"):  # pydantic names the chosen member of the union
            found = [m for m in found if part in get_args(m.model_fields["kind"].annotation)]
        elif isinstance(part, str):
            found = [
                inner for m in found if part in m.model_fields for inner in _models(m.model_fields[part].annotation)
            ]
    return sorted({name for m in found for name in m.model_fields})


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model inside Optional, list, Annotated and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    else:
        for inner in get_args(annotation):
            yield from _models(inner)
