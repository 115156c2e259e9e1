"""The JSON that comes in and goes out, each type once: pydantic coming in, TypedDict (encoded by orjson) going out."""

from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from typing_extensions import TypedDict

from app.errors import invalid
from app.query import Filter
from models.contract.events import ContextValue, Event, Id

MAX_K = 500
MAX_HISTORY = 512
MAX_EXCLUDE = 4_096
MAX_EVENTS = 1_000
MAX_DEADLINE_MS = 60_000


Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Incoming(BaseModel):
    """Strict: a number in quotes is not a number, an unknown field is an error, NaN and Infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RecommendRequest(Incoming):
    """Who the list is for and what may be on it. Neither a user nor a history is a cold user, which is fine."""

    user_id: Id | None = Field(default=None, description="whose state to read; unknown users are cold users")
    k: int = Field(default=20, ge=1, le=MAX_K, description="items wanted")
    # Factories with the default told apart: pydantic makes a deep copy of a default that can be changed.
    history: list[Id] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        max_length=MAX_HISTORY,
        description="item ids of this session, oldest first; they count as newer than the stored history, and as seen",
    )
    context: dict[Name, ContextValue] = Field(
        default_factory=dict,
        json_schema_extra={"default": {}},
        max_length=32,
        description="context features of the bundle",
    )
    filter: Filter | None = Field(default=None, description="what every item of the list must satisfy")
    exclude: list[Id] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        max_length=MAX_EXCLUDE,
        description="item ids that must not be on the list",
    )
    include_seen: bool = Field(default=False, description="whether items the user has seen may be on the list")
    fields: list[Name] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        max_length=64,
        description="item columns to return with each item",
    )
    deadline_ms: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DEADLINE_MS,
        description="time for the answer; stages that do not fit are skipped, ms",
    )


class RecommendQuery(BaseModel):
    """What GET /recommend takes of it; a query string holds texts, which are read as what they should be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: Id | None = Field(default=None, description="whose state to read; unknown users are cold users")
    k: int = Field(default=20, ge=1, le=MAX_K, description="items wanted")
    include_seen: bool = Field(default=False, description="whether items the user has seen may be on the list")
    fields: list[Name] = Field(default=[], max_length=64, description="item columns to return; once for each")


class SimilarQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int = Field(default=20, ge=1, le=MAX_K, description="items wanted; a bundle keeps a limited number per item")
    fields: list[Name] = Field(default=[], max_length=64, description="item columns to return; once for each")


class EventsRequest(Incoming):
    """Each event is judged by itself; a body that breaks the schema is refused whole."""

    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


Source = Literal["own_frequent", "user_vector", "neighbours", "popular"]
ServedBy = Literal["ranking", "retrieval", "popular"]
Degraded = Literal["ranking", "retrieval", "feature_store"]


class Reason(TypedDict):
    """The item of the history that is most similar to the recommended one."""

    kind: Literal["because_of"]
    item_id: str


class RecommendedItem(TypedDict):
    """score: higher is better; comparable within one answer only."""

    item_id: str
    rank: int
    score: float
    source: Source
    reason: Reason | None
    fields: NotRequired[dict[str, Any]]


class Recommendation(TypedDict):
    """recommendation_id comes back in events.  served_by: the last stage that gave the order.

    degraded: what was left out or unreachable.  warnings: what in the request had no effect, and why a list is short.
    """

    recommendation_id: str
    bundle: str
    items: list[RecommendedItem]
    served_by: ServedBy
    degraded: list[Degraded]
    warnings: list[str]
    took_ms: float


class SimilarItem(TypedDict):
    item_id: str
    rank: int
    similarity: float
    fields: NotRequired[dict[str, Any]]


class SimilarItems(TypedDict):
    """Items that the same users took, most similar first."""

    bundle: str
    item_id: str
    items: list[SimilarItem]


class EventAnswer(TypedDict):
    """What became of the event at this position of the batch."""

    index: int
    status: Literal["accepted", "duplicate", "refused"]
    code: str | None
    message: str | None
    warnings: list[str]


class EventsAnswer(TypedDict):
    """durability: when the feature store writes to disk: always (before it answers), everysec, no, or unknown."""

    accepted: int
    duplicates: int
    refused: int
    durability: str
    results: list[EventAnswer]


class Erased(TypedDict):
    """How much was deleted at once; archived rows go when `shortlist events archive` runs next."""

    user_id: str
    states: int
    event_ids: int
    stream_events: int


class Health(TypedDict):
    status: Literal["ok", "ready", "draining", "loading"]
    bundle: NotRequired[str]
    feature_store: NotRequired[Literal["ok", "unavailable"]]


class BundleInfo(TypedDict):
    version: str
    active: bool
    rollback: bool


class Bundles(TypedDict):
    """active: what the pointer names.  serving: what this worker answers with; they differ only during a swap."""

    active: str | None
    serving: str
    bundles: list[BundleInfo]


class Activation(TypedDict):
    """The bundle now served by every worker of this machine."""

    active: str
    previous: str
    workers: int


Wire = TypeVar("Wire", bound=BaseModel)


def parse(model: type[Wire], body: bytes) -> Wire:
    """Read a request's body. Raises MalformedBody or InvalidRequest."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from None
