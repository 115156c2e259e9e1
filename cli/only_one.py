"""One training of a data folder at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Nothing else is trained in the data folder meanwhile; of several processes, the first one sees to it.

    Raises DataError where something is; the system frees the lock of a process that ended.
    """
    from models.data.write import exclusive
    from models.distributed import is_first

    if not is_first():
        yield
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(data_dir / ".train.lock", "another `shortlist train` or `shortlist compress`"):
        yield
