"""How many bytes each part of a bundle takes."""

from pathlib import Path

from models.contract import bundle as layout

ITEM_ROWS, OTHER = "the ranker's item rows", "manifest and model card"
# the first prefix that a file's path begins with
PARTS = {
    layout.ITEM_PART: ITEM_ROWS,
    "ranking/": "ranking graphs",
    layout.USER_TOWER: "user tower",
    layout.INDEX: "index",
    "retrieval/item_vectors": "item vectors",
    layout.NEIGHBOURS: "neighbours",
    layout.NEIGHBOURS_SIMILARITY: "neighbours",
    layout.NEIGHBOURS_COUNT: "neighbours",
    layout.ITEMS: "ids, answer fields, filters",
    layout.ITEM_TABLES: "tables of cross features",
    layout.POPULAR: "popular items",
}


def bundle_size(path: Path) -> dict[str, int]:
    """Bytes of the bundle in this folder by part, the largest part first."""
    sizes: dict[str, int] = {}
    for file in path.rglob("*"):
        if file.is_file():
            name = file.relative_to(path).as_posix()
            part = next((part for prefix, part in PARTS.items() if name.startswith(prefix)), OTHER)
            sizes[part] = sizes.get(part, 0) + file.stat().st_size
    return dict(sorted(sizes.items(), key=lambda entry: -entry[1]))
