"""Recommendation ids that sort by time: ULIDs, 48 bits of milliseconds and 80 random bits in 26 characters."""

import secrets

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def ulid(now_ms: int) -> str:
    """A new id for this moment, Crockford's base 32. https://github.com/ulid/spec"""
    value = (now_ms & (1 << 48) - 1) << 80 | secrets.randbits(80)
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
