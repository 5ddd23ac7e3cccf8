"""Composes overrides and the files of ``conf/`` with Hydra into checked records."""
