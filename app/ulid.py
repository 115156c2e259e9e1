"""Recommendation ids that sort by time: ULIDs, 48 bits of milliseconds and 80 random bits in 26 characters."""

import random

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def ulid(now_ms: int) -> str:
    """A new id for this moment, Crockford's base 32. https://github.com/ulid/spec

    Unique, not secret: each process seeds its generator from the system, and a system call per answer is saved.
    """
    value = (now_ms & (1 << 48) - 1) << 80 | random.getrandbits(80)
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
