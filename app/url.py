"""Percent-encoded bytes that are not UTF-8: an id of such bytes must not become U+FFFD, which is another id."""

from urllib.parse import parse_qsl, unquote

from app.errors import NOT_UTF_8, MalformedUrl

REPLACED = "\N{REPLACEMENT CHARACTER}"


def exact_path(path: str, raw_path: bytes) -> str:
    """The path with each byte that is not UTF-8 as a lone surrogate, which no parameter of a route accepts.

    path: with U+FFFD in their place, as servers give it.
    """
    return unquote(raw_path.decode("ascii"), errors="surrogateescape") if REPLACED in path else path


def check_query(query: bytes) -> None:
    """Raises MalformedUrl, which names the parameter."""
    if b"%" not in query:
        return
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape"):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MalformedUrl.of(name.encode(errors="replace").decode(), NOT_UTF_8) from None
