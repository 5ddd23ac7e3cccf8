"""Seeds derived from their purpose, so that a resumed run draws the same random numbers as an uninterrupted one."""

import hashlib


def derived_seed(*purpose: object) -> int:
    """Return a 63-bit seed for a purpose, such as ``derived_seed(seed, "epoch", 3)``."""
    digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
