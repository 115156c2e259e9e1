"""How many items the index is asked for, so that enough of them are allowed. Serving and evaluation share it: an index
that is not exact brings other items when it is asked for more, and both must give the same lists."""

from collections.abc import Iterator

FEW = 4_096  # items that may be scored beside the index, where few are allowed; also the most that is fetched
STEPS = (256, 320, 416, 640, 1_024, 2_048, FEW)  # few numbers, so that users of a batch share a search


def fetches(num_items: int, num_allowed: int, limit: int) -> Iterator[int]:
    """Numbers of items to ask for, one after the other until `limit` of the found ones are allowed, or all that are: at
    first what is likely to suffice, then what is certain to. After the last, exactly the allowed ones are to be scored;
    where few are allowed, at once.
    """
    if num_allowed <= min(FEW, num_items // 4):
        return
    removed = num_items - num_allowed
    likely = min(limit + removed // 2, 2 * limit * num_items // num_allowed)  # twice the expected share
    last = 0
    for enough in (likely, limit + removed):
        enough = min(enough, num_items)
        if enough <= FEW:
            fetch = min(next(step for step in STEPS if step >= enough), num_items)
            if fetch > last:
                yield fetch
                last = fetch
