"""Do clicks move the list? For many users of a running service: ask, buy items of one category, ask again.

The bought items are left out of both answers, so that what changes is what the model made of them.

    python -m bench.clicks --url http://localhost:8000 --users 200
"""

import argparse
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.bootstrap import mean_interval

K = 20
CLICKS = 3


@dataclass(frozen=True, slots=True)
class Move:
    """One user.  before, after: share of the list that is of the clicked items' category.  differs: the lists do."""

    before: float
    after: float
    differs: bool


def move(client: httpx.Client, user_id: str, field: str, event_type: str) -> Move | None:
    """None where the user's list has no CLICKS items of one category."""
    first = _ask(client, user_id, field, [])
    values = [item["fields"][field] for item in first]
    wanted = next((value for value in reversed(values) if value and values.count(value) >= CLICKS), None)
    if wanted is None:
        return None
    clicked = [item["item_id"] for item in first if item["fields"][field] == wanted][:CLICKS]
    before = _ask(client, user_id, field, clicked)
    events = [{"user_id": user_id, "item_id": item, "event_type": event_type} for item in clicked]
    client.post("/events", json={"events": events}).raise_for_status()
    after = _ask(client, user_id, field, clicked)
    return Move(
        _share(before, field, wanted),
        _share(after, field, wanted),
        [item["item_id"] for item in before] != [item["item_id"] for item in after],
    )


def _ask(client: httpx.Client, user_id: str, field: str, exclude: list[str]) -> list[dict[str, Any]]:
    body = {"user_id": user_id, "k": K, "fields": [field], "exclude": exclude, "deadline_ms": 10_000}
    answer = client.post("/recommend", json=body).raise_for_status().json()
    if answer["degraded"]:
        raise SystemExit(f"the answer to {user_id} was degraded: {answer['degraded']}; is the service healthy?")
    items: list[dict[str, Any]] = answer["items"]
    return items


def _share(items: list[dict[str, Any]], field: str, value: Any) -> float:
    return float(np.mean([item["fields"][field] == value for item in items])) if items else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--users", type=int, default=200, help="users whose list has enough items of one category")
    parser.add_argument("--field", default="department", help="returned column that is the category")
    parser.add_argument("--event-type", default="purchase")
    parser.add_argument("--first", type=int, default=1, help="user ids are numbers, tried upwards from here")
    arguments = parser.parse_args()
    moves: list[Move] = []
    with httpx.Client(base_url=arguments.url, timeout=30) as client:
        for number in track(range(arguments.first, arguments.first + 20 * arguments.users), "asking", transient=True):
            found = move(client, str(number), arguments.field, arguments.event_type)
            moves += [found] if found is not None else []
            if len(moves) == arguments.users:
                break
    if not moves:
        raise SystemExit("no user's list had enough items of one category; try another --field")
    gain = mean_interval(np.array([one.after - one.before for one in moves]), seed=0)
    table = Table("users", "lists that differ", "share before", "share after", "gain (95 % interval)")
    table.add_row(
        str(len(moves)),
        f"{np.mean([one.differs for one in moves]):.1%}",
        f"{np.mean([one.before for one in moves]):.3f}",
        f"{np.mean([one.after for one in moves]):.3f}",
        f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})",
    )
    Console().print(table)


if __name__ == "__main__":
    main()
