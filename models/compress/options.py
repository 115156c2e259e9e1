"""`[compress]` of `shortlist.toml`: how trained models are made smaller."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.section import Section, Units

StudentName = Literal["lr", "fm", "ffm", "fnn", "ipnn", "opnn", "pnn", "wide_deep", "deepfm", "gmf", "mlp", "neumf"]


class StudentRanker(Section):
    """What the small ranker has in place of `[train.ranker]`. Chosen where nothing is given: the vectors as long as a
    quarter of the teacher's parameters allows, with a quarter of its hidden units."""

    model: StudentName | None = Field(
        default=None,
        exclude_if=lambda name: name is None,  # what was made before there was a choice is not made again
        description="not given: wide_deep for a deepfm, without the factorisation machine whose sums are most of a "
        "small graph's time; otherwise the teacher's",
    )
    dim: int | None = Field(default=None, ge=1, le=256, description="length of the field vectors")
    hidden: list[Units] | None = Field(default=None, min_length=1, description="units of the layers")


class StudentSasRec(Section):
    """What the small SASRec has in place of `[train.retrieval]`. Half of both where nothing is given."""

    dim: int | None = Field(default=None, ge=4, le=1024, description="length of user and item vectors")
    layers: int | None = Field(default=None, ge=1, le=12, description="Transformer layers of the user tower")
    heads: int | None = Field(default=None, ge=1, le=16, description="attention heads; dim is a multiple of it")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim and self.heads and self.dim % self.heads:
            raise ValueError(f"dim = {self.dim} is not a multiple of heads = {self.heads}")
        return self


class CompressSection(Section):
    prune_units: float = Field(default=0.5, gt=0, lt=1, description="share of each layer's hidden units to remove")
    prune_weights: float = Field(default=0.5, gt=0, lt=1, description="share of the layers' weights to set to zero")
    importance: Literal["validation", "taylor", "norm"] = Field(
        default="validation",
        description="which units go. taylor: those whose activation times gradient is smallest; norm: those with the "
        "smallest weights; validation: by whichever of the two leaves the better figure before fine-tuning",
    )
    rounds: int = Field(default=1, ge=1, le=10, description="prune so often, each time a part and then fine-tuning")
    epochs: int = Field(default=1, ge=1, description="fine-tuning of a pruned ranker, after each round")
    steps_share: float = Field(
        default=0.3, gt=0, le=1, description="fine-tuning of a pruned retrieval model, of its max_steps"
    )
    rate_share: float = Field(default=0.5, gt=0, le=1, description="of the learning rate, for fine-tuning")
    soft_weight: float = Field(
        default=0.9, gt=0, le=1, description="weight of what the teacher says; the labels have the rest"
    )
    temperature: float = Field(default=1.0, gt=0, le=100, description="logits are divided by it in the soft loss")
    soft_loss: Literal["rows", "lists"] | None = Field(
        default=None,
        description="rows: each candidate's probability. lists: the softmax over a list, and so only its order. Not "
        "given: rows with the loss log_loss, lists with bpr and softmax, whose logits say only an order",
    )
    student: StudentRanker = StudentRanker()
    retrieval_student: StudentSasRec = StudentSasRec()
