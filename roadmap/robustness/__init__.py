"""Which change buys robustness to corrupted images."""
