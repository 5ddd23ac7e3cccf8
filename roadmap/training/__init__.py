"""One run from its record to its summary: the loop, its parts, checkpoints, and many runs one after another."""
