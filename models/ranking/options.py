"""`[train.ranker]` of `shortlist.toml`: which ranking model, what it learns from, and how it is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.section import Section, Units

RankerName = Literal[
    "none", "lr", "fm", "ffm", "fnn", "ipnn", "opnn", "pnn", "wide_deep", "deepfm", "gmf", "mlp", "neumf", "transformer"
]


class RankerOptions(Section):
    model: RankerName = "deepfm"
    learn_from: Literal["candidates", "interactions"] = Field(
        default="candidates",
        description="candidates: what retrieval brings in the ranker windows. interactions: every pair of a user and "
        "an item they took, beside sampled items; without cross features, as papers train NCF",
    )
    windows: int | None = Field(
        default=None, ge=1, description="newest ranker windows to learn from; all of split.ranker_windows if not given"
    )
    dim: int = Field(default=16, ge=1, le=256, description="length of the field vectors")
    hidden: list[Units] = Field(default=[128, 64], min_length=1, description="units of the layers")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the layers' units")
    embedding_dropout: float = Field(default=0.1, ge=0, lt=1, description="of the field vectors that enter the layers")
    batch_norm: bool = Field(default=False, description="of the layers' units, before their ReLU")
    embedding_l2: float = Field(
        default=0.0, ge=0, description="times half the sum of the squares of all field vectors and weights"
    )
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=1e-5, ge=0, le=1)
    batch_size: int = Field(default=24, ge=1, description="candidate lists a step; rows of a labelled table")
    epochs: int = Field(default=3, ge=1, description="at most this often over all candidate lists or rows")
    patience: int = Field(default=3, ge=1, description="validations without a gain before training stops")
    negatives: int = Field(default=10, ge=0, description="sampled items beside a list's candidates, or beside a pair")
    hard_share: float = Field(
        default=0.0, ge=0, le=1, description="interactions: of the negatives, those from the user's best by retrieval"
    )
    loss: Literal["log_loss", "bpr", "softmax", "squared"] = Field(
        default="log_loss", description="squared is for explicit ratings; bpr and softmax compare within a list"
    )
    impressions: bool = Field(
        default=False,
        description="what the user was shown and did not click, by [impressions], stands beside a list's candidates",
    )
    propensity: Literal["none", "position"] = Field(
        default="none",
        description="position: a click counts by one over the chance that its place was looked at, by [impressions]",
    )
    max_weight: float = Field(default=10, ge=1, le=1000, description="propensity: a click counts at most this much")
    crosses: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        default=[], description="wide_deep: pairs of categorical features whose combinations get a weight of their own"
    )
    layers: int = Field(default=1, ge=1, le=8, description="transformer: attention layers")
    heads: int = Field(default=2, ge=1, le=16, description="transformer: attention heads; dim is a multiple of it")
    history_length: int = Field(
        default=20, ge=1, le=512, description="transformer: newest interactions beside the candidate"
    )

    @property
    def history_read(self) -> int:
        """Positions of the history that the model takes; 0 for one that takes none."""
        return self.history_length if self.model == "transformer" else 0

    @property
    def asks_for_impressions(self) -> str | None:
        """The setting that needs logged impressions, None where none does."""
        if self.propensity != "none":
            return "propensity"
        return "impressions" if self.impressions else None

    @model_validator(mode="after")
    def _impressions_have_a_use(self) -> Self:
        asked = self.asks_for_impressions
        if asked and self.learn_from == "interactions":
            raise ValueError(f'{asked} is for candidate lists; leave it out, or learn_from = "interactions"')
        if self.propensity != "none" and self.loss == "squared":
            raise ValueError(
                'propensity weighs clicks, and loss = "squared" is for ratings; choose log_loss, bpr or softmax'
            )
        return self

    @model_validator(mode="after")
    def _pairs_have_something_beside_them(self) -> Self:
        if self.learn_from == "interactions" and not self.negatives:
            raise ValueError(
                'negatives = 0 leaves learn_from = "interactions" nothing to tell apart; set it to 1 or more'
            )
        return self

    @model_validator(mode="after")
    def _hard_negatives_are_of_pairs(self) -> Self:
        if self.hard_share and self.learn_from != "interactions":
            raise ValueError('hard_share is for learn_from = "interactions"; candidates are hard negatives all')
        return self

    @model_validator(mode="after")
    def _crosses_have_a_model(self) -> Self:
        if self.crosses and self.model != "wide_deep":
            raise ValueError(f'crosses are for model = "wide_deep"; model = "{self.model}" has no use for them')
        return self
