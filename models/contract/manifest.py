"""What a bundle says about itself: one JSON file that names every other file with its hash, and how good it all is."""

from typing import Final, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from models.contract.schema import Frozen, Schema
from models.contract.tables import Precision, SimilarityPrecision

FORMAT_VERSION: Final = 2  # 1, whose tables are all of the widest types, is read as well
Profile = Literal["default", "edge"]
MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"


class BundleError(Exception):
    """A bundle, or the record of which one is active, that must not be used.

    file: path relative to the bundle (or to the folder of bundles).  reason: what is wrong and what to do.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class Tensor(Frozen):
    """An input or output of a graph, or a table that feeds one. A dimension is a size, or a name when it varies."""

    name: str
    dtype: str
    shape: list[int | str]


class RetrievalInfo(Frozen):
    model: str
    dim: int = Field(ge=1)
    history_length: int = Field(ge=1, description="positions the user tower takes")
    tensors: list[Tensor]


class RankingInfo(Frozen):
    model: str
    user_dim: int = Field(ge=1)
    item_part_dim: int = Field(ge=1)
    cross_features: list[str] = Field(description="names, in the order of the head's columns")
    history_length: int = Field(0, ge=0, description="positions that the user graph takes; 0 where it takes no history")
    tensors: list[Tensor]


class IndexInfo(Frozen):
    kind: str = Field(description="FAISS factory string")
    parameters: dict[str, int] = Field({}, description="search parameters to set after reading, nprobe for instance")
    from_vectors: bool = Field(
        default=False, description="there is no file: made of the item vectors' int8 codes when the bundle is opened"
    )
    recall: FiniteFloat = Field(ge=0, le=1, description="recall@200 against the exact search, on real user vectors")


class GraphInfo(Frozen):
    precision: Literal["int8", "fp32"]
    why: str
    compression: list[str] = Field(
        default=[], description="what else made it smaller: distilled, pruned, int8 tables inside"
    )


class TableInfo(Frozen):
    """How the numbers of one table are stored."""

    precision: Precision | SimilarityPrecision
    why: str


class Gate(Frozen):
    """One condition of publication. `value` may not pass `limit` on the side that `rule` names."""

    name: str
    value: float
    rule: Literal["at_most", "at_least"]
    limit: float
    passed: bool


class FileInfo(Frozen):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class Manifest(Frozen):
    """manifest.json. In Python the schema is `data_schema`, since pydantic keeps `schema` for itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    format_version: Literal[1, 2] = FORMAT_VERSION
    version: str
    created: str = Field(description="ISO 8601, UTC")
    code_version: str
    data_fingerprint: str = Field(description="sha256 of the training data after cleaning")
    profile: Profile = Field(default="default", description="edge: made as small as the quality gates allow")
    training_key: str = Field("", description="names the data and the settings that the models were trained with")
    as_of_ms: int = Field(description="end of the training data, before the shift")
    clock_shift_ms: int = Field(0, description="added to every time of the data: whole days, so that days stay days")
    data_schema: Schema = Field(alias="schema")
    retrieval: RetrievalInfo
    ranking: RankingInfo | None = Field(None, description="None: the retrieval order is served")
    index: IndexInfo
    graphs: dict[str, GraphInfo] = Field(description="by path of the graph's file")
    tables: dict[str, TableInfo] = Field(
        default={}, description="by path; a table of float rows that is not here is fp32"
    )
    metrics: dict[str, dict[str, FiniteFloat]] = Field({}, description="groups of figures, free names")
    gates: list[Gate]
    files: dict[str, FileInfo] = Field(description="every other file, by its path with forward slashes")
