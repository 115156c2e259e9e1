"""Retrieval models that propagate over a graph, and are asked for tables made from it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

from torch import Tensor

from models.retrieval.graph import Graph
from models.retrieval.linear import distinct_items
from models.retrieval.model import RetrievalModel


class PropagatingModel(RetrievalModel):
    """`forward` and `item_vectors` read tables, so that no request waits for the graph. They are made when weights
    are loaded and whenever the model enters evaluation mode; training propagates itself."""

    graph: Graph

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(lambda model, keys: model.refresh())  # type: ignore[no-untyped-call]

    @abstractmethod
    def refresh(self) -> None:
        """Make the tables anew from the weights and the graph."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What nn.Module does with each tensor, as when it goes to another device, is done with the graph's too."""
        self.graph = self.graph.each(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not mode:
            self.refresh()
        return self


def sum_of_distinct(history: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sum [B, d] of the rows of the history's distinct items, and how many they are, float32 [B, 1].

    history: int64 [B, L], item_index + 1 with 0 as padding.  rows: [N, d].
    """
    items, first = distinct_items(history)
    return (first.unsqueeze(1) @ rows[items]).flatten(1), first.sum(-1, keepdim=True)
