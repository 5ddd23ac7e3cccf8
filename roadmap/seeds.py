"""Random numbers that depend on what they are for, so that a resumed run draws what an uninterrupted one would."""

import hashlib


def derived_seed(*purpose: object) -> int:
    """A 63-bit seed from a run's seed and what it is used for: ``derived_seed(seed, "epoch", 3)``."""
    digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
