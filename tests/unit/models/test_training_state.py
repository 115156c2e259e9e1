"""What a step draws: the same again when it is resumed, and something else in each process."""

import torch

from models.training_state import seed_step


def mask(step: int, *rank: int) -> list[float]:
    seed_step(3, step, *rank)
    return torch.rand(8).tolist()


def test_the_first_process_draws_what_one_alone_does() -> None:
    torch.manual_seed(hash((3, 5)) % 2**63)
    alone = torch.rand(8).tolist()
    assert mask(5) == mask(5, 0) == alone


def test_processes_and_steps_have_dropout_masks_of_their_own() -> None:
    assert mask(5, 1) == mask(5, 1)
    assert len({tuple(mask(*place)) for place in [(5, 0), (5, 1), (5, 2), (6, 0), (6, 1)]}) == 5
