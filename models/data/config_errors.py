"""Sentences for what pydantic found wrong in `shortlist.toml`."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def describe(error: ValidationError, path: Path, model: type[BaseModel]) -> str:
    """One sentence a problem, each naming the file and the key."""
    return "\n".join(f"{path}: {_sentence(problem, model)}" for problem in error.errors())


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part, _ in _walk(model, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = sorted(
            {name for _, found in _walk(model, problem["loc"])[-1:] for m in found for name in m.model_fields}
        )
        return f"unknown key {key!r}{suggestion(str(problem['loc'][-1]), known)}"
    if problem["type"] == "union_tag_invalid":
        named, tags = problem["ctx"]["discriminator"].strip("'"), problem["ctx"]["expected_tags"].replace("'", "")
        return (
            f"{key}.{named}: {problem['ctx']['tag']!r} is unknown{suggestion(problem['ctx']['tag'], tags.split(', '))}"
        )
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    return f"{key}: {problem['msg']}, not {problem['input']!r}"


def suggestion(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _walk(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[tuple[int | str, list[type[BaseModel]]]]:
    """The keys and positions of `loc`, each with the tables that may hold it; the names pydantic adds for the chosen
    member of a union are left out."""
    path, found = [], [model]
    for part in loc:
        chosen = [m for m in found if _tagged(m, part)]
        if chosen and len(found) > 1:
            found = chosen
            continue
        path.append((part, found))
        if isinstance(part, str):
            found = [
                inner for m in found if part in m.model_fields for inner in _models(m.model_fields[part].annotation)
            ]
    return path


def _tagged(model: type[BaseModel], tag: int | str) -> bool:
    """Whether this is the member of a union that the tag names."""
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for name, field in model.model_fields.items()
        if name in ("kind", "model")
    )


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model inside Optional, list, Annotated and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    else:
        for inner in get_args(annotation):
            yield from _models(inner)
