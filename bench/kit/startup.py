"""What a worker costs before its first request, measured in processes of their own:

    python -m bench.kit.startup rest
    python -m bench.kit.startup bundle .shortlist/bundles/20261122T061744Z-5e2091

Each prints one line of JSON. `rest` is a worker's imports and its application without a bundle, `bundle` the time from
the folder to the first answer: verified, opened, warmed up.
"""

import sys
import time
from pathlib import Path

BEGUN_S = time.perf_counter()


def rest() -> dict[str, float]:
    """import_s: wall clock.  rss_bytes: resident, shared libraries included."""
    import app.worker
    from app.main import create_app
    from app.settings import Settings

    imported_s = time.perf_counter() - BEGUN_S
    worker = app.worker, create_app(Settings())
    found = {"import_s": imported_s, "rss_bytes": float(_rss_bytes())}
    del worker
    return found


def bundle(folder: Path) -> dict[str, float]:
    """load_s: wall clock, with the files in the page cache or not, as the machine has them."""
    import app.worker  # noqa: F401  what is loaded before a bundle is
    from app.opening import open_engine
    from app.settings import Settings
    from app.warmup import warm_up

    settings = Settings()
    begun_s = time.perf_counter()
    warm_up(open_engine(folder, settings.filter_cache_mb * 2**20), settings)
    return {"load_s": time.perf_counter() - begun_s}


def _rss_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    found = rest() if sys.argv[1] == "rest" else bundle(Path(sys.argv[2]))
    import orjson

    print(orjson.dumps(found).decode())
