"""What making models smaller costs, over trainings of one data set with a seed each, against what is to be reached.

    python -m bench.compression --name demo runs/demo-0 runs/demo-1 runs/demo-2
    python -m bench.compression --markdown

Each folder is a data folder after `shortlist train`. `shortlist compress` and `shortlist compress-report` run in it,
unless they have since it was trained; interrupted, run it again. The figures go to results.json, in the place of those
of the same name and seed.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from bench.compression.results import RESULTS, markdown, merge, read_results
from bench.compression.run import CommandFailed, run_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, nargs="*", metavar="DATA_DIR", help="data folders, a seed each")
    parser.add_argument("--name", help="of the data set, in the results")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/compression.md has them")
    options = parser.parse_args()
    if options.data_dir and not options.name:
        parser.error("--name is needed: what the data set is called in the results")
    console, failed = Console(), False
    for number, data_dir in enumerate(options.data_dir, 1):
        console.rule(f"{options.name}: {data_dir}, {number} of {len(options.data_dir)}")
        try:
            merge(run_folder(data_dir, options.name, options.threads), RESULTS)
        except CommandFailed as error:
            failed = True
            console.print(str(error), style="red", markup=False)
    text = markdown(read_results(RESULTS))
    if options.markdown:
        print(text, end="")
    else:
        console.print(Markdown(text))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
