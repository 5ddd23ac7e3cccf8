"""Trained networks evaluated on data sets and corruptions."""
