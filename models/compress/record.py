"""`compression.json` beside the stages of a compressed model: what was done, how, and to which models."""

import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models.checkpoint import CheckpointError

FILE = "compression.json"


class Record(BaseModel):
    """retrieval, ranking: what was done to each, a sentence a step, in order; empty for a model that is as it was.

    settings: `[compress]`, as JSON.  teachers: SHA-256 of the stage files it was made from, by their path from the
    folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    retrieval: list[str]
    ranking: list[str]
    settings: str
    teachers: dict[str, str]

    @property
    def key(self) -> str:
        """Names all of it."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def compression(self) -> dict[str, list[str]]:
        return {"retrieval": self.retrieval, "ranking": self.ranking}

    def check_teachers(self, folder: Path) -> None:
        """Raises CheckpointError where a model that this was made from is not what it was."""
        for name, told in self.teachers.items():
            path = folder / name
            if not path.exists() or _hash(path) != told:
                raise CheckpointError(
                    f"{folder}: was made from other models than {path.resolve()} now holds; run `shortlist compress "
                    f"--only {self.name}` again"
                )


def read_record(folder: Path) -> Record | None:
    """None in a folder of ordinary training. Raises CheckpointError for a damaged file."""
    path = folder / FILE
    try:
        return Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CheckpointError(f"{path}: is damaged or of another version; run `shortlist compress` again") from error


def write_record(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{FILE}.tmp"
    unfinished.write_text(record.model_dump_json(indent=1), "utf-8")
    unfinished.rename(folder / FILE)


def hashes(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """For `Record.teachers`."""
    return {Path(os.path.relpath(path, folder)).as_posix(): _hash(path) for path in files}


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
