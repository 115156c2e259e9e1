"""Which features and which negatives give the ranker its gain: docs/models.md has the table.

    python -m bench.accuracy.ablation --only demo
    python -m bench.accuracy.ablation --data ~/benchmarks

The ranker is trained again without each group of features and with other negatives. An interrupted run goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from bench.accuracy.ablation.run import ablation
from bench.accuracy.ablation.table import markdown_tables, merge_ablation, read_ablation
from bench.accuracy.ablation.variants import VARIANTS
from bench.accuracy.rows import DEMO, data_sections, read_table
from models.data.config import load_config
from models.data.dataset import load_dataset
from models.data.prepare import prepare_dataset
from models.run_log import Silent

FOLDER = Path(__file__).parent
NAMES = [path.stem for path in sorted(FOLDER.glob("*.toml"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the benchmark data; not needed for the demo")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--work", type=Path, default=Path(".shortlist/ablation"), help="where runs are kept")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/models.md has them")
    options = parser.parse_args()
    if options.markdown:
        print(markdown_tables(read_ablation()), end="")
        return
    if options.data is None and set(options.only) != {DEMO}:
        parser.error("--data is needed: the folder that holds the benchmark data sets")
    for name in options.only:
        merge_ablation(name, _run(name, options.work.absolute() / name, options.data, options.threads))
    print(markdown_tables(read_ablation()), end="")


def _run(name: str, work: Path, data: Path | None, threads: int) -> list[dict[str, Any]]:
    work.mkdir(parents=True, exist_ok=True)
    config = work / "shortlist.toml"
    config.write_text(_configuration(name, work, data), "utf-8")
    place = work / "data"
    command = [sys.executable, "-m", "cli.main", "train", "--config", str(config), "--data-dir", str(place)]
    subprocess.run([*command, "--threads", str(threads)], check=True)
    torch.set_num_threads(threads)
    loaded = load_config(config)
    dataset = load_dataset(prepare_dataset(loaded, place).folder)
    found = ablation(dataset, loaded.train, place / "train", Silent())
    return [entry for entries in track(found, name, len(VARIANTS) + 1) for entry in entries]


def _configuration(name: str, work: Path, data: Path | None) -> str:
    """The data set's sections, for the demo those of its package, then the training."""
    text = (FOLDER / f"{name}.toml").read_text("utf-8")
    if name == DEMO:
        return data_sections(DEMO, read_table().data[DEMO], Path(), work) + text
    assert data is not None
    return text.replace("{data}", data.absolute().as_posix())


if __name__ == "__main__":
    main()
