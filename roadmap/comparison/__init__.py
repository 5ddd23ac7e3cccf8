"""Logged runs compared: groups of seeds, gaps, statistics, tables and figures."""
