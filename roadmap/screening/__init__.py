"""Screening designs: the main effects of many changes from a few runs."""
