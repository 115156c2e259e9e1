"""The contract of every retrieval model: a user tower, and a vector for each item."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from models.contract.user_inputs import FEATURES, HISTORY


class RetrievalModel(nn.Module, ABC):
    """`forward` is the user tower as it is exported; a score is the product of a user vector and an item vector.

    history_length: positions that the tower takes.  user_features: whether `forward` also takes user_categorical int64
    [B, Fu] and user_numeric float32 [B, Gu], as `models.contract.features` makes them.
    """

    history_length: int
    user_features: bool = False

    @property
    def tower_inputs(self) -> tuple[str, ...]:
        """Names of what `forward` takes, in its order."""
        return (*HISTORY, *FEATURES) if self.user_features else HISTORY

    @abstractmethod
    def forward(self, history: Tensor, set_ordinal: Tensor, *user_features: Tensor) -> Tensor:
        """history int64 [B, L], item_index + 1 with 0 as padding; set_ordinal int64 [B, L] -> user vectors [B, d].

        See `models.contract.history.tower_input`. A user without history gets a vector too.
        """

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """Vectors of the whole catalogue [N, d]."""

    def known_user_vectors(self) -> Tensor | None:
        """Vectors [U, d] that training itself gave to the users of the data; None where a user is their history.

        Only for comparing with published figures: serving knows users by history and features alone.
        """
        return None
