"""Train, validation and test: by time (the default), by each user's last interactions, or at random."""

import ibis
import ibis.expr.types as ir

from models.data.config import SplitSection
from models.data.dataset import PARTS, Splits
from models.data.errors import BadRowsError

DAY_MS = 86_400_000
TRAIN, VALIDATION, TEST = range(len(PARTS))
_MIN_FOR_LEAVE_OUT = 3  # with fewer interactions a user would have no history left


def make_splits(section: SplitSection, first_ms: int, last_ms: int) -> Splits:
    """The windows, counted back from the last interaction. Raises BadRowsError if the data is shorter than they are."""
    end = last_ms + 1
    if section.kind != "time":
        return Splits(first_ms, first_ms, first_ms, end, section.kind)
    test = end - round(section.test_days * DAY_MS)
    valid = test - round(section.valid_days * DAY_MS)
    ranker = valid - round(section.ranker_windows * section.valid_days * DAY_MS)
    if ranker <= first_ms:
        raise BadRowsError(
            f"the interactions span {(end - first_ms) / DAY_MS:.1f} days; nothing is left to train on before "
            f"{(end - ranker) / DAY_MS:.1f} days of test, validation and ranker windows; make split.test_days, "
            "split.valid_days or split.ranker_windows smaller"
        )
    return Splits(ranker, valid, test, end)


def with_part(interactions: ir.Table, section: SplitSection, splits: Splits) -> ir.Table:
    """`part` (int8, position in PARTS) added to user_id, item_id, time_ms, event_type."""
    if section.kind == "time":
        time = interactions.time_ms
        part = ibis.cases((time < splits.valid_start_ms, TRAIN), (time < splits.test_start_ms, VALIDATION), else_=TEST)
    elif section.kind == "random":
        draw = _draw(interactions, section.seed)
        test, both = section.test_share, section.test_share + section.valid_share
        part = ibis.cases((draw < _hex(test), TEST), (draw < _hex(both), VALIDATION), else_=TRAIN)
    else:
        part = _leave_last_out(interactions, section.seed)
    return interactions.mutate(part=part.cast("int8"))


def require_parts(counts: dict[str, int], splits: Splits) -> None:
    """Raise BadRowsError if a part, or what retrieval trains on before the ranker's windows, is empty."""
    for part, count in counts.items():
        if count == 0:
            key = "lengthen its window in days" if splits.kind == "time" else "more interactions are needed"
            raise BadRowsError(f"no interactions in the {part} split ({splits.kind}); {key}, or see limits.min_users")


def _draw(interactions: ir.Table, seed: int) -> ir.StringValue:
    """32 hexadecimal digits that depend on the seed and the row's content alone, never on where the row stands."""
    text = ibis.literal(f"{seed}")
    for column in ("user_id", "item_id", "time_ms", "event_type"):
        text = text + "\x1f" + interactions[column].cast("string")
    return text.hexdigest("md5")


def _hex(share: float) -> str:
    """Below this text lie `share` of all draws."""
    return f"{round(share * 16**8):08x}"


def _leave_last_out(interactions: ir.Table, seed: int) -> ir.IntegerValue:
    # Equal times are a set: which of them is last is drawn, not taken from the order of ids.
    # A key named twice would lose its DESC.
    others = [column for column in interactions.columns if column != "time_ms"]
    newest_first = ibis.window(
        group_by="user_id", order_by=[interactions.time_ms.desc(), _draw(interactions, seed), *others]
    )
    place = ibis.row_number().over(newest_first)
    enough = interactions.count().over(ibis.window(group_by="user_id")) >= _MIN_FOR_LEAVE_OUT
    return ibis.cases((enough & (place == 0), TEST), (enough & (place == 1), VALIDATION), else_=TRAIN)
