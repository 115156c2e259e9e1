"""The model card: what the models were trained on, how good they are, what quantization cost. For people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from models.contract import bundle as layout
from models.contract.manifest import Gate

if TYPE_CHECKING:
    from export.write import BundleContent


class CompressionCard(NamedTuple):
    """What `shortlist compress-report` found for these models.  text: markdown.  picture: PNG."""

    text: str
    picture: bytes


def model_card(content: "BundleContent", sizes: Mapping[str, int]) -> str:
    """Markdown, from the same figures as the manifest.  sizes: bytes by part of the bundle."""
    schema = content.schema
    until = datetime.fromtimestamp(content.as_of_ms / 1000, UTC)
    features = [
        ["user", ", ".join(f.name for f in schema.user_features) or "none"],
        ["context", ", ".join(f.name for f in schema.context_features) or "none"],
        ["item", ", ".join(f.name for f in schema.item_features) or "none"],
    ]
    ranking = content.ranking.info if content.ranking else None
    if ranking is not None:
        features.append(["cross", ", ".join(ranking.cross_features) or "none"])
    parts = [
        "# Model card",
        f"Retrieval: {content.retrieval.model}, {content.retrieval.dim} dimensions, the newest "
        f"{content.retrieval.history_length} interactions. Ranking: {ranking.model if ranking else 'none'}. "
        f"Catalogue: {len(content.item_vectors):,} items. Code: {content.code_version}.",
        "## Trained on",
        f"Interactions up to {until:%Y-%m-%d %H:%M} UTC of the event types {', '.join(schema.event_types)}. "
        f"Data fingerprint `{content.data_fingerprint}`.",
        _table(["group", "features"], features),
        content.notes,
        "## How good",
        *(f"### {group}\n\n{_figures(values)}" for group, values in content.metrics.items()),
        "## What was shipped",
        f"Profile: {content.profile}.",
        _table(
            ["graph", "precision", "compression", "why"],
            [[path, g.precision, "; ".join(g.compression) or "none", g.why] for path, g in content.graphs.items()],
        ),
        _table(["table", "precision", "why"], [[path, t.precision, t.why] for path, t in content.tables.items()])
        if content.tables
        else "",
        f"Index: `{content.index.kind}` {content.index.parameters or ''} "
        f"with recall@200 {content.index.recall:.4f} against the exact search.",
        "## Size",
        size_table(sizes),
        *_compression(content.compression),
        "## Gates",
        gate_table(content.gates),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _compression(found: CompressionCard | None) -> list[str]:
    if found is None:
        return []
    return ["## Compression", f"![what each variant costs and gives]({layout.COMPRESSION_PICTURE})", found.text.strip()]


def size_table(sizes: Mapping[str, int]) -> str:
    """Markdown table of bytes by part, and their sum."""
    rows = [[part, f"{size / 1e6:.2f}"] for part, size in sizes.items()]
    return _table(["part", "MB"], [*rows, ["together", f"{sum(sizes.values()) / 1e6:.2f}"]])


def gate_table(gates: Sequence[Gate]) -> str:
    """Markdown table of all gates."""
    words = {"at_most": "at most", "at_least": "at least"}
    rows = [
        [gate.name, f"{gate.value:.6g}", f"{words[gate.rule]} {gate.limit:.6g}", "yes" if gate.passed else "**NO**"]
        for gate in gates
    ]
    return _table(["gate", "value", "limit", "passed"], rows)


def _figures(values: dict[str, float]) -> str:
    return _table(["figure", "value"], [[name, f"{value:.6g}"] for name, value in values.items()])


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
