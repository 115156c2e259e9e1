"""API keys: kept as hashes, compared in constant time, each with the scopes it opens."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from app.errors import Forbidden, Unauthenticated

SCOPES = ("serve", "admin")
_ENTRY = re.compile(r"sha256:([0-9a-f]{64}):([a-z,]+)")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """digest: SHA-256 of the key.  Keys are long random strings, so a fast hash is enough."""

    digest: bytes
    scopes: frozenset[str]

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read `sha256:<hex>:<scopes>`. Raises ValueError, which never repeats the entry: it may be a key itself."""
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError("an API key entry is not `sha256:<64 hex digits>:<scopes>`; `shortlist key` makes one")
        return cls(bytes.fromhex(match[1]), _scopes(match[2].split(",")))

    @property
    def entry(self) -> str:
        return f"sha256:{self.digest.hex()}:{','.join(sorted(self.scopes))}"


def hash_key(key: str, scopes: Iterable[str]) -> str:
    """The entry for SHORTLIST_API_KEYS that lets this key in. Raises ValueError for an unknown scope."""
    return ApiKey(_digest(key.encode()), _scopes(list(scopes))).entry


def authorise(keys: Sequence[ApiKey], presented: bytes | None, scope: str) -> None:
    """Return if the presented key opens this scope, or if no keys are set. admin opens serve as well.

    Raises Unauthenticated without a known key, Forbidden for a key without the scope.
    """
    if not keys:
        return
    if presented is None:
        raise Unauthenticated("send an API key as X-API-Key, or as Authorization: Bearer")
    digest = _digest(presented)
    matches = [key for key in keys if hmac.compare_digest(key.digest, digest)]  # all are compared, none returns early
    if not matches:
        raise Unauthenticated("this API key is not known")
    if not any(scope in key.scopes or "admin" in key.scopes for key in matches):
        raise Forbidden(f"this API key does not have the scope {scope!r}")


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key in a request's headers; names are lower case, as ASGI has them."""
    bearer = None
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].strip()
    return bearer


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _scopes(names: list[str]) -> frozenset[str]:
    unknown = sorted(set(names) - set(SCOPES))
    if unknown or not names:
        raise ValueError(f"unknown scope {', '.join(unknown)!r}; there are {' and '.join(SCOPES)}")
    return frozenset(names)
