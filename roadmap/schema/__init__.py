"""Frozen, checked records of configs and files."""
