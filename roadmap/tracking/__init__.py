"""Loggers in addition to the run's folder: Weights & Biases, its files and its names of things."""
