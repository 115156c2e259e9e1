"""Train, validation and test are windows of time, whatever the kind of split.

Papers also split by each user's last interactions, or at random. Those kinds rewrite the times so that the same windows
separate the same parts (docs/decisions/14-rewritten-times.md): what trains, evaluates and exports knows windows only.
"""

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from models.contract.state import MIN_TIME_MS
from models.data.dataset import PARTS, Splits
from models.data.errors import BadRowsError
from models.data.sections import SplitSection

DAY_MS = 86_400_000
TRAIN, VALIDATION, TEST = range(len(PARTS))
_MIN_FOR_LEAVE_OUT = 3  # and the ranker's windows: with fewer interactions a user would have no history left
_DRAWN_FROM = ("user_id", "item_id", "time_ms", "event_type")


def split(connection: Backend, interactions: ir.Table, section: SplitSection) -> tuple[ir.Table, Splits]:
    """`part` (int8, position in PARTS) added; time_ms rewritten unless the kind is "time".

    interactions: user_id, item_id, time_ms, event_type and other columns. Raises BadRowsError if the data is shorter
    than the windows.
    """
    if section.kind == "time":
        splits = _windows(section, *_time_range(connection, interactions))
    else:
        _, last_ms = _time_range(connection, interactions)
        move = _leave_last_out if section.kind == "leave-last-out" else _random
        interactions = connection.create_table("moved", move(interactions, section), temp=True)
        first_ms, _ = _time_range(connection, interactions)
        # the data still end where they did, unless a time would be before what a user's state can hold
        test = max(last_ms, MIN_TIME_MS + 1 - first_ms)
        interactions = interactions.mutate(time_ms=interactions.time_ms + test)
        valid = test - DAY_MS
        ranker = valid - section.num_ranker_windows * DAY_MS
        splits = Splits(ranker, valid, test, test + DAY_MS, section.kind)
    time = interactions.time_ms
    part = ibis.cases((time < splits.valid_start_ms, TRAIN), (time < splits.test_start_ms, VALIDATION), else_=TEST)
    return interactions.mutate(part=part.cast("int8")), splits


def require_parts(counts: dict[str, int], splits: Splits) -> None:
    """Raise BadRowsError if a part, or what retrieval trains on before the ranker's windows, is empty."""
    hint = {
        "time": "lengthen its window in days",
        "leave-last-out": f"users need {_MIN_FOR_LEAVE_OUT} interactions and one for each of split.ranker_windows",
        "random": "users need 3 interactions",
    }
    for part, count in counts.items():
        if count == 0:
            raise BadRowsError(
                f"no interactions in the {part} split ({splits.kind}); {hint[splits.kind]}, or see limits.min_users"
            )


def _windows(section: SplitSection, first_ms: int, last_ms: int) -> Splits:
    """The windows, counted back from the last interaction."""
    end = last_ms + 1
    test = end - round(section.test_days * DAY_MS)
    valid = test - round(section.valid_days * DAY_MS)
    ranker = valid - round(section.num_ranker_windows * section.valid_days * DAY_MS)
    if ranker <= first_ms:
        raise BadRowsError(
            f"the interactions span {(end - first_ms) / DAY_MS:.1f} days; nothing is left to train on before "
            f"{(end - ranker) / DAY_MS:.1f} days of test, validation and ranker windows; make split.test_days, "
            "split.valid_days or split.ranker_windows smaller"
        )
    return Splits(ranker, valid, test, end)


def _leave_last_out(interactions: ir.Table, section: SplitSection) -> ir.Table:
    """time_ms counted from the test window's start. The last interaction of a user is at 0, the others before it.

    One a day: test, validation, ranker windows, and the newest of the rest; older ones keep the gaps they had, of at
    least 1 ms. So at the start of every window a user's last interaction is a day old.
    """
    windows = section.num_ranker_windows
    # Equal times are a set: which of them is last is drawn, not taken from the order of ids.
    # A key named twice would lose its DESC.
    others = [column for column in interactions.columns if column != "time_ms"]
    draw = _draw(interactions, section.seed, _DRAWN_FROM)
    newest_first = ibis.window(group_by="user_id", order_by=[interactions.time_ms.desc(), draw, *others])
    enough = interactions.count().over(ibis.window(group_by="user_id")) >= _MIN_FOR_LEAVE_OUT + windows
    rest = windows + len((VALIDATION, TEST))  # the place of the newest interaction that no window holds
    place = ibis.row_number().over(newest_first)
    moved = interactions.mutate(
        place=place + ibis.ifelse(enough, 0, rest),
        gap=interactions.time_ms.lag().over(newest_first) - interactions.time_ms,
    )
    gap = ibis.ifelse(moved.place > rest, ibis.greatest(moved.gap.fill_null(0), 1), 0)
    newer = ibis.window(group_by="user_id", order_by="place", preceding=None, following=0)
    age = ibis.least(moved.place, rest) * DAY_MS + gap.sum().over(newer)
    return moved.mutate(time_ms=-age.cast("int64")).drop("place", "gap")


def _random(interactions: ir.Table, section: SplitSection) -> ir.Table:
    """time_ms counted from the test window's start: one time for each part.

    As RecBole's ratio-based split grouped by user: shares are rounded down, but to no less than 1 of a user who keeps
    one to train on.
    """
    others = [column for column in interactions.columns if column not in _DRAWN_FROM]
    same = ibis.window(group_by=list(_DRAWN_FROM), order_by=others)
    numbered = interactions.mutate(copy=ibis.row_number().over(same))  # equal rows must not fall into the same part
    draw = _draw(numbered, section.seed, (*_DRAWN_FROM, "copy"))
    count = numbered.count().over(ibis.window(group_by="user_id"))
    drawn = numbered.mutate(place=ibis.row_number().over(ibis.window(group_by="user_id", order_by=draw)), total=count)
    test, valid = _rounded_down(section.test_share, drawn.total), _rounded_down(section.valid_share, drawn.total)
    test = ibis.ifelse((test == 0) & (drawn.total - valid > 1), 1, test)
    valid = ibis.ifelse((valid == 0) & (drawn.total - test > 1), 1, valid)
    time = ibis.cases((drawn.place < test, 0), (drawn.place < test + valid, -DAY_MS), else_=-2 * DAY_MS)
    return drawn.mutate(time_ms=time.cast("int64")).drop("copy", "place", "total")


def _rounded_down(share: float, count: ir.IntegerValue) -> ir.IntegerValue:
    return (count * share).floor().cast("int64")  # exact: the database takes the share for a decimal


def _draw(interactions: ir.Table, seed: int, columns: tuple[str, ...]) -> ir.StringValue:
    """32 hexadecimal digits that depend on the seed and the row's content alone, never on where the row stands."""
    text = ibis.literal(f"{seed}")
    for column in columns:
        text = text + "\x1f" + interactions[column].cast("string")
    return text.hexdigest("md5")


def _time_range(connection: Backend, interactions: ir.Table) -> tuple[int, int]:
    time = interactions.time_ms
    row = connection.to_pyarrow(interactions.agg(first=time.min(), last=time.max())).to_pylist()[0]
    return row["first"], row["last"]
