"""Training: the loop, checkpoints, one run from config to summary, and many runs in a queue."""
