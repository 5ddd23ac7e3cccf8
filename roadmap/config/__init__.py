"""Hydra's side of the house: overrides and files of ``conf/`` in, checked records out."""
