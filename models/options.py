"""`[train]` of `shortlist.toml`: which models, and how they are trained.

[train]            seed, and what all stages share
[train.retrieval]  model = "sasrec" and its own keys
[train.ranker]     model = "deepfm" and its own keys; model = "none" serves the retrieval order
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from models.ranking.options import RankerOptions
from models.section import Section, Units


class GradientOptions(Section):
    """What every retrieval model trained step by step has."""

    dim: int = Field(default=64, ge=4, le=1024, description="length of user and item vectors")
    history_length: int = Field(default=100, ge=1, le=4096, description="newest interactions that the user tower reads")
    batch_size: int = Field(default=64, ge=1, description="histories or interactions a step")
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_steps: int = Field(default=2000, ge=1, description="budget of the retrieval model")
    max_epochs: int = Field(
        default=40, ge=1, description="at most this often over all data, whatever the budget: small data needs less"
    )
    validations: int = Field(default=8, ge=1, description="a run looks at the validation users this often")
    patience: int = Field(default=3, ge=1, description="validations without a gain before training stops")


class SasRecOptions(GradientOptions):
    model: Literal["sasrec"] = "sasrec"
    layers: int = Field(default=2, ge=1, le=12, description="Transformer layers of the user tower")
    heads: int = Field(default=2, ge=1, le=16, description="attention heads; dim is a multiple of it")
    feed_units: Units | None = Field(
        default=None,
        exclude_if=lambda units: units is None,  # what was trained before there was a choice keeps its key
        description="hidden units of each layer's feed-forward; twice dim if not given",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1)
    id_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of item ids hidden, so that features carry new items"
    )
    horizon_days: float = Field(
        default=0.0, ge=0, description="a moment's target is drawn from this many days after it; 0 is the next items"
    )
    repeat_weight: float = Field(
        default=1.0, ge=0, le=1, description="weight of a target that the user had before; 0 learns what is new to them"
    )
    moments: int = Field(default=24, ge=1, description="moments of each history that a step learns from")
    loss: Literal["sampled_softmax", "softmax", "bce", "gbce"] = Field(
        default="sampled_softmax",
        description="softmax is over the whole catalogue; bce and gbce over sampled negatives",
    )
    negatives: int = Field(default=1024, ge=1, description="sampled items a step, shared by its moments")
    negatives_power: float = Field(
        default=0.75, ge=0, le=2, description="items are sampled by popularity to this power; 0 is uniformly"
    )
    gbce_calibration: float = Field(
        default=0.75, ge=0, le=1, description="gbce: 0 is plain bce, 1 calibrates for the sampling fully"
    )

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim = {self.dim} is not a multiple of heads = {self.heads}")
        return self


class TwoTowerOptions(GradientOptions):
    model: Literal["two_tower"]
    hidden: list[Units] = Field(default=[128], description="units of each tower's hidden layers")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    id_dropout: float = Field(default=0.1, ge=0, lt=1, description="share of item ids hidden in training")
    temperature: float = Field(
        default=0.1, gt=0, le=10, description="vectors have unit length; logits are divided by it"
    )
    batch_size: int = Field(
        default=512, ge=1, description="moments a step; each has the targets of the others as its negatives"
    )
    horizon_days: float = Field(
        default=0.0, ge=0, description="a moment's target is drawn from this many days after it; 0 is the next items"
    )
    repeat_weight: float = Field(
        default=1.0, ge=0, le=1, description="weight of a target that the user had before; 0 learns what is new to them"
    )


class BprOptions(GradientOptions):
    model: Literal["bpr"]
    batch_size: int = Field(default=4096, ge=1, description="pairs of a user and an item a step")
    learning_rate: float = Field(default=1e-2, gt=0, le=1)
    l2: float = Field(default=3e-3, ge=0, description="times the mean squared length of a pair's vectors")
    negatives: int = Field(default=4, ge=1, description="sampled items a pair")
    negatives_power: float = Field(default=0.0, ge=0, le=2, description="negatives by popularity to this power")
    init_std: float = Field(default=0.01, gt=0, le=1, description="of the vectors before training")


class LightGcnOptions(GradientOptions):
    model: Literal["lightgcn"]
    history_length: int = Field(default=200, ge=1, le=4096, description="newest interactions that the user tower reads")
    layers: int = Field(default=3, ge=1, le=8, description="propagations over the graph")
    loss: Literal["bpr", "sampled_softmax"] = Field(
        default="sampled_softmax", description="bpr is the loss of the paper; it learns from one negative at a time"
    )
    negatives: int = Field(default=512, ge=1, description="sampled_softmax: items a step; bpr has one an interaction")
    l2: float = Field(default=0.0, ge=0, description="of the first vectors in a batch; 1e-4 in the paper, for bpr")
    batch_size: int = Field(default=16384, ge=1, description="interactions a step, each of which takes the whole graph")
    learning_rate: float = Field(default=1.3e-3, gt=0, le=1)
    max_steps: int = Field(default=300, ge=1, description="budget of the retrieval model")
    edge_weight: float = Field(
        default=1.0, ge=0, le=100, description="of social and item-item edges beside interactions"
    )


class GcnOptions(GradientOptions):
    model: Literal["gcn"]
    history_length: int = Field(default=200, ge=1, le=4096, description="newest interactions that the user tower reads")
    hidden: int = Field(default=128, ge=1, description="units of the first convolution")
    item_ids: bool = Field(
        default=True, description="an item's id is a feature too; without it features alone carry it"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the first convolution's units")
    new_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of users and items learned from as if new, by their features alone"
    )
    negatives: int = Field(default=512, ge=1, description="sampled items a step")
    batch_size: int = Field(default=8192, ge=1, description="interactions a step, each of which takes the whole graph")
    learning_rate: float = Field(default=0.01, gt=0, le=1)
    max_steps: int = Field(default=1000, ge=1, description="budget of the retrieval model")
    edge_weight: float = Field(
        default=1.0, ge=0, le=100, description="of social and item-item edges beside interactions"
    )


class IalsOptions(Section):
    model: Literal["ials"]
    dim: int = Field(default=64, ge=4, le=1024)
    history_length: int = Field(default=200, ge=1, le=4096, description="newest interactions that fold-in reads")
    unobserved_weight: float = Field(default=0.5, gt=0, description="weight of a pair without an interaction")
    regularization: float = Field(default=0.006, gt=0, description="of the vectors' squared lengths")
    frequency_power: float = Field(
        default=1.0, ge=0, le=2, description="regularisation grows with this power of a row's frequency"
    )
    init_std: float = Field(default=0.1, gt=0, le=1, description="of the vectors before training, over sqrt(dim)")
    max_epochs: int = Field(default=16, ge=1)
    fold_in_steps: int = Field(default=8, ge=1, le=256, description="conjugate gradient steps of the exported fold-in")


class LinearOptions(Section):
    """Item-based models in closed form: the user vector is a sum over the history."""

    history_length: int = Field(default=200, ge=1, le=4096, description="newest interactions that the user tower reads")
    dim: int = Field(
        default=256,
        ge=4,
        le=8192,
        description="rank of the factorised item-item matrix; exact from the catalogue's size on",
    )


class EaseOptions(LinearOptions):
    model: Literal["ease"]
    regularization: float = Field(default=500.0, gt=0, description="lambda of the paper, on the diagonal")


class ItemToItemOptions(LinearOptions):
    model: Literal["item_to_item"]
    weighting: Literal["cosine", "bm25"] = "cosine"
    neighbours: int = Field(default=100, ge=1, le=10_000, description="most similar items kept for each item")
    shrinkage: float = Field(default=5.0, ge=0, description="cosine: n users in common count n / (n + shrinkage)")
    bm25_k1: float = Field(default=1.2, ge=0, le=1000)
    bm25_b: float = Field(default=0.75, ge=0, le=1)


class PopularityOptions(Section):
    model: Literal["popularity"]
    half_life_days: float = Field(default=30.0, gt=0)
    history_length: int = Field(default=1, ge=1, le=4096)


class ContentVectors(Section):
    """How the features of an item become its content vector."""

    dim: int = Field(default=128, ge=4, le=8192, description="of the content vectors; fewer where features give fewer")
    text_dim: int = Field(default=128, ge=4, le=1024, description="of each text feature's vectors")
    half_life_sets: float = Field(
        default=10.0, gt=0, description="sets of equal time after which an interaction counts half in the profile"
    )
    text_weight: float = Field(default=1.0, ge=0, le=100, description="of each text feature")
    category_weight: float = Field(default=1.0, ge=0, le=100, description="of all categorical values together")
    numeric_weight: float = Field(default=0.3, ge=0, le=100, description="of all numbers together")
    vector_weight: float = Field(default=1.0, ge=0, le=100, description="of each given vector")


class ContentOptions(ContentVectors):
    model: Literal["content"]
    history_length: int = Field(default=200, ge=1, le=4096, description="newest interactions that the user tower reads")


class ContentShare(ContentVectors):
    """`[train.content]`: content beside any other retrieval model."""

    weight: float = Field(gt=0, lt=1, description="share of the content's score; the other model has the rest")


RetrievalOptions = Annotated[
    SasRecOptions
    | TwoTowerOptions
    | LightGcnOptions
    | GcnOptions
    | BprOptions
    | IalsOptions
    | EaseOptions
    | ItemToItemOptions
    | PopularityOptions
    | ContentOptions,
    Field(discriminator="model"),
]


class TrainSection(Section):
    seed: int = Field(default=0, ge=0, description="of every random choice in training")
    refit_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of the budget to go on with when newer data is added; 0: only popularity and tables follow",
    )
    retrieval: RetrievalOptions = SasRecOptions()
    content: ContentShare | None = Field(
        default=None, description="content of the items beside the retrieval model: helps where items are new or rare"
    )
    ranker: RankerOptions = RankerOptions()

    @model_validator(mode="before")
    @classmethod
    def _sasrec_unless_named(cls, value: Any) -> Any:
        section = value.get("retrieval") if isinstance(value, dict) else None
        if isinstance(section, dict) and "model" not in section:
            return {**value, "retrieval": {"model": "sasrec", **section}}
        return value
