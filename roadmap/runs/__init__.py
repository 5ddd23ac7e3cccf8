"""Runs on disk: folders, locks, records, and what makes two runs comparable."""
