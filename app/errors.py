"""What can go wrong for a caller, and the one table that gives each a status code.

    ShortlistError
    ├── InvalidRequest            a field that cannot be accepted; details name it
    │   ├── MalformedBody         not JSON at all
    │   └── MalformedUrl          a parameter of the path or the query that is not UTF-8
    ├── MalformedRequest          not HTTP/1.1 as it is read here
    ├── HeadTooLarge
    ├── HeadTooSlow               the request line and headers did not come in time
    ├── BodyTooLarge
    ├── BodyTooSlow               the body did not come in time
    ├── Unauthenticated
    ├── Forbidden
    ├── NotFound                  no such route, item or bundle
    ├── MethodNotAllowed
    ├── BundleRefused             a bundle that must not be served, with the file that is wrong
    ├── ActivationBusy            another activation is under way
    ├── ActivationFailed          a worker could not follow; the pointer went back
    ├── Overloaded                more requests in work than the limit
    ├── NotReady                  no bundle is being served
    ├── StoreDown                 events and user data need the feature store
    └── Internal                  ours; the log has it under the request id

Messages are written for callers. The text of an internal exception never gets into one.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from typing_extensions import TypedDict

NOT_UTF_8 = "is not UTF-8 after percent-decoding"


class Detail(TypedDict):
    """One field and what is wrong with it."""

    field: str
    message: str


class ErrorBody(TypedDict):
    code: str
    message: str
    request_id: str
    details: list[Detail]


class ErrorAnswer(TypedDict):
    """Every answer that is not a 2xx."""

    error: ErrorBody


class ShortlistError(Exception):
    code = "internal"

    def __init__(self, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)


class InvalidRequest(ShortlistError):
    code = "invalid_request"

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidRequest":
        return cls(f"{field}: {message}", [Detail(field=field, message=message)])


class MalformedBody(InvalidRequest):
    code = "malformed_json"


class MalformedUrl(InvalidRequest):
    code = "malformed_url"


class MalformedRequest(ShortlistError):
    code = "malformed_request"


class HeadTooLarge(ShortlistError):
    code = "head_too_large"


class HeadTooSlow(ShortlistError):
    code = "head_too_slow"


class BodyTooLarge(ShortlistError):
    code = "body_too_large"


class BodyTooSlow(ShortlistError):
    code = "body_too_slow"


class Unauthenticated(ShortlistError):
    code = "unauthenticated"


class Forbidden(ShortlistError):
    code = "forbidden"


class NotFound(ShortlistError):
    code = "not_found"


class MethodNotAllowed(ShortlistError):
    """methods: those that the route takes, as the answer's Allow names them."""

    code = "method_not_allowed"

    def __init__(self, methods: Sequence[str]) -> None:
        self.allow = ", ".join(methods)
        super().__init__(f"this route does not take that method; it takes {self.allow}")


class BundleRefused(ShortlistError):
    code = "bundle_refused"


class ActivationBusy(ShortlistError):
    code = "activation_in_progress"


class ActivationFailed(ShortlistError):
    code = "activation_failed"


class Overloaded(ShortlistError):
    code = "overloaded"


class NotReady(ShortlistError):
    code = "not_ready"


class StoreDown(ShortlistError):
    code = "feature_store_unavailable"


class Internal(ShortlistError):
    code = "internal"


STATUS: dict[type[ShortlistError], int] = {
    InvalidRequest: 422,
    MalformedBody: 400,
    MalformedUrl: 400,
    MalformedRequest: 400,
    HeadTooLarge: 431,
    HeadTooSlow: 408,
    BodyTooLarge: 413,
    BodyTooSlow: 408,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    BundleRefused: 409,
    ActivationBusy: 409,
    ActivationFailed: 503,
    Overloaded: 503,
    NotReady: 503,
    StoreDown: 503,
    Internal: 500,
}
# After these nobody knows where the next request would begin.
LAST = (MalformedRequest, HeadTooLarge, HeadTooSlow, BodyTooSlow)


def status_of(error: ShortlistError) -> int:
    return STATUS.get(type(error), 500)


def headers_of(error: ShortlistError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, Unauthenticated):
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allow.encode())]
    if isinstance(error, LAST):
        return [(b"connection", b"close")]
    return [(b"retry-after", b"1")] if status_of(error) == 503 else []


def body_of(error: ShortlistError, request_id: str) -> bytes:
    body = ErrorBody(code=error.code, message=error.message, request_id=request_id, details=error.details)
    return orjson.dumps(ErrorAnswer(error=body))


def invalid(errors: Sequence[Any]) -> InvalidRequest:
    """The caller's view of pydantic's list of errors. MalformedBody when the text was not JSON, MalformedUrl when a
    parameter was not UTF-8, which only a path's can be here."""
    if errors[0]["type"] == "json_invalid":
        return MalformedBody(f"the body is not JSON: {errors[0]['ctx']['error']}")
    details = [Detail(field=_path(error["loc"]), message=_sentence(error)) for error in errors[:20]]
    kind = MalformedUrl if errors[0]["type"] == "string_unicode" else InvalidRequest
    return kind(f"{details[0]['field']}: {details[0]['message']}", details)


def _path(loc: Sequence[str | int]) -> str:
    """`("filter", "<all>", "all", 0, "field")` as `filter.all[0].field`; a part in <> is a union's tag, not a field.

    A key that cannot be accepted, `("context", "", "[key]")`, is told of what holds it.
    """
    if loc[-1:] == ("[key]",):
        loc = loc[:-2]
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<"):
            path += f".{part}" if path else part
    return path or "body"


def _sentence(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "string_unicode":
        return NOT_UTF_8
    message: str = error["msg"]
    return message.removeprefix("Value error, ").removeprefix("Input ")
