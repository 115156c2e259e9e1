"""Where a run's results are written: JSON, tables and pictures under the machine's name and the day."""

from pathlib import Path

from bench.kit.machine import short_name
from bench.kit.plots import draw
from bench.kit.ratios import RATIOS
from bench.kit.results import Results, short, to_json, to_markdown

LATEST = "latest.json"


def write(results: Results, folder: Path, *, record: bool) -> list[Path]:
    """Returns the paths. Another run of the same day gets a number.  record: as latest.json as well."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = free_stem(folder, f"{short_name()}-{str(results.about['started'])[:10]}")
    content = to_json(results)
    paths = [folder / f"{stem}.json", folder / f"{stem}.md"]
    pictures = draw(results.figures, folder, stem)
    shown = "".join(f"\n![{path.stem}]({path.name})\n" for path in pictures)
    paths[0].write_bytes(content)
    paths[1].write_text(to_markdown(results) + shown, "utf-8")
    if record:
        paths.append(folder / LATEST)
        paths[-1].write_bytes(content)
    return [*paths, *pictures]


def free_stem(folder: Path, stem: str) -> str:
    number, found = 1, stem
    while (folder / f"{found}.json").exists():
        number += 1
        found = f"{stem}-{number}"
    return found


def ratio_table(results: Results) -> str:
    """What is looked at first: the ratios and how they stand."""
    lines = ["| what | value | floor | aim | reached |", "|---|---|---|---|---|"]
    ratios = results.ratios
    for ratio in RATIOS:
        found = ratios.get(ratio.name)
        told = "" if found is None else short(found.value)
        standing = "not measured" if found is None else ratio.standing(found.value)
        lines.append(f"| {ratio.text} | {told} | {short(ratio.floor)} | {short(ratio.aim)} | {standing} |")
    return "\n".join(lines) + "\n"
