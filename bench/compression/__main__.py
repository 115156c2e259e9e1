"""Rankers made smaller, in figures: the mean over several trainings of one data set, one seed each.

    python -m bench.compression --data-dir runs/demo-0 runs/demo-1 runs/demo-2

Each folder is a data folder after `shortlist train`. What was made in it before is not made again. Sizes and times of
the exported graphs are those of `shortlist compress-report`.
"""

import argparse
from pathlib import Path

import torch

from bench.compression.measure import Figures, figures, lists_of_test, mean
from bench.compression.variants import variants
from models.data.dataset import load_dataset
from models.run_log import Silent

TRAINED = "trained"


class Lines(Silent):
    """A line for each stage that is done."""

    def finish(self, stage: str, note: str) -> None:
        print(f"{stage}: {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, nargs="+", required=True, help="data folders, a seed each")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: dict[str, list[Figures]] = {}
    for data_dir in options.data_dir:
        for name, found in measured(data_dir).items():
            rows.setdefault(name, []).append(found)
    print(table({name: mean(found) for name, found in rows.items()}))


def measured(data_dir: Path) -> dict[str, Figures]:
    """The trained ranker and its variants on one data folder."""
    dataset, folder = load_dataset(data_dir / "prepared"), data_dir / "train"
    folders = {TRAINED: folder, **variants(dataset, folder, log=Lines())}
    lists = lists_of_test(dataset, folder, Lines())
    return {name: figures(dataset, path, lists) for name, path in folders.items()}


def table(rows: dict[str, Figures]) -> str:
    """As Markdown; changes are against the trained ranker."""
    whole = rows[TRAINED]
    lines = [
        "| ranker | parameters | AUC | of the trained | log-loss | NDCG@10 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        share = f"{row.auc / whole.auc:.2%} ({row.auc - whole.auc:+.4f})"
        lines.append(f"| {name} | {row.parameters:,} | {row.auc:.4f} | {share} | {row.log_loss:.4f} | {row.ndcg:.4f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
