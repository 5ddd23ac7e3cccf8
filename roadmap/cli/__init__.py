"""Argument parsing and output shared by the commands."""
