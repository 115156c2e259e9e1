"""The accuracy table: every model under the protocol that its published figure has. Exit code 1: a row failed.

    python -m bench.accuracy --data ~/benchmarks --only ml-1m-ratings/lightgcn

`--data` is a folder with a folder for each data set (docs/models.md names their files); the demo's data come from its
package. A row that is done is not done again, and an interrupted one goes on: the work folder remembers.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from bench.accuracy.gains import write_gains
from bench.accuracy.results import markdown_table, merge_results, read_results, results_table
from bench.accuracy.rows import DEMO, Row, Table, data_sections, read_table
from bench.accuracy.run import run_row
from models.data.errors import DataError


def main() -> None:
    table = read_table()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the benchmark data; not needed for the demo's rows")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows by name, or all of a data set: ml-100k/")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the rows' own")
    parser.add_argument("--work", type=Path, default=Path(".shortlist/accuracy"), help="where runs are kept")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--show", action="store_true", help="print the table of results.json and do nothing else")
    parser.add_argument("--markdown", action="store_true", help="the same as docs/models.md has it")
    options = parser.parse_args()
    if options.markdown:
        print(markdown_table(table, table.row, read_results()), end="")
        return
    console = Console()
    rows = [row for row in table.row if not options.only or any(row.name.startswith(name) for name in options.only)]
    if not rows:
        parser.error(f"--only names no row; there are {', '.join(row.name for row in table.row)}")
    if options.data is None and not options.show and any(row.data != DEMO for row in rows):
        parser.error("--data is needed: the folder that holds the benchmark data sets")
    if not options.show:
        sections, failed = _run_all(table, rows, options, console)
        for gain in write_gains(table, sections, options.work.absolute()):
            console.print("{data} {mode}: {model} over {against}, {metric}".format(**gain), gain["relative"])
    console.print(results_table(table, rows, read_results()))
    if not options.show and failed:
        sys.exit(1)


def _run_all(
    table: Table, rows: list[Row], options: argparse.Namespace, console: Console
) -> tuple[dict[str, str], bool]:
    """What configurations say of the data, by data set, and whether a row failed: the others run all the same."""
    work, data = options.work.absolute(), (options.data or Path()).absolute()
    sections: dict[str, str] = {}
    failed = False
    for name in dict.fromkeys(row.data for row in rows):
        try:
            sections[name] = data_sections(name, table.data[name], data, work)
        except DataError as error:
            failed = True
            console.print(f"{name}: none of its rows is run: {error}", style="red", markup=False)
    runs = [(row, seed) for row in rows if row.data in sections for seed in options.seeds or row.seeds]
    began = time.monotonic()
    for number, (row, seed) in enumerate(runs):
        console.rule(f"{row.name}, seed {seed}: run {number + 1} of {len(runs)}, {_left(began, number, len(runs))}")
        try:
            entries = run_row(row, seed, sections[row.data], work, table.data[row.data], options.threads)
        except subprocess.CalledProcessError as error:
            failed = True
            console.print(f"{row.name}, seed {seed}: `shortlist {error.cmd[3]}` failed; see above", style="red")
        except ValueError as error:
            failed = True
            console.print(f"{row.name}, seed {seed}: {error}", style="red", markup=False)
        else:
            merge_results(entries, table)
    return sections, failed


def _left(began: float, done: int, total: int) -> str:
    if not done:
        return "time left unknown"
    minutes = (time.monotonic() - began) / done * (total - done) / 60
    return f"about {minutes:.0f} min left"


if __name__ == "__main__":
    main()
