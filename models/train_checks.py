"""What is refused before anything is trained, rather than after hours of the stages before it."""

from models.data.dataset import Dataset
from models.options import TrainSection
from models.ranking.train import build_ranker
from models.retrieval.train import build_model
from models.windows import learns_from_windows, ranker_start_ms


def check_can_be_built(dataset: Dataset, options: TrainSection) -> None:
    """Raises ValueError for what a model needs and the data have not: now, not after hours of the stage before it."""
    check_has_what_it_asks_for(dataset, options)
    build_model(dataset, options, ranker_start_ms(dataset, options))
    if options.ranker.model != "none":
        build_ranker(dataset, options)


def check_has_what_it_asks_for(dataset: Dataset, options: TrainSection) -> None:
    """Raises ValueError for a ranker that asks for windows or impressions which the data have not."""
    splits = dataset.splits
    if learns_from_windows(options) and splits.ranker_start_ms == splits.valid_start_ms:
        raise ValueError(
            "the data have no window for the ranker to learn from: set split.ranker_windows to 1 or more and prepare "
            'again, or set [train.ranker] model = "none" or learn_from = "interactions"'
        )
    asked = options.ranker.asks_for_impressions
    if asked and dataset.impressions is None:
        raise ValueError(
            f"[train.ranker] {asked} needs logged impressions, and the data have none: name their file in a section "
            f"[impressions] and prepare again, or leave {asked} out"
        )


def check_processes(options: TrainSection, size: int, num_users: int | None = None) -> None:
    """Raises ValueError where `size` processes cannot share the batches or the users."""
    if size > 1 and options.ranker.model != "none" and options.ranker.batch_norm:
        raise ValueError(
            f"{size} processes: [train.ranker] batch_norm = true takes its mean and variance over a whole batch, and a "
            "process has only a part of one; set it to false, or train with one process"
        )
    if num_users is not None and num_users < size:
        raise ValueError(
            f"{size} processes: there are {num_users} users, and every process needs some of its own; use fewer "
            "processes"
        )
    for name, section in (("retrieval", options.retrieval), ("ranker", options.ranker)):
        batch_size = getattr(section, "batch_size", size)
        if batch_size < size:
            raise ValueError(
                f"{size} processes: [train.{name}] batch_size = {batch_size} gives a process nothing; raise "
                "batch_size, or use fewer processes"
            )
