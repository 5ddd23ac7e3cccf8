"""Designs off the path: studies, their plans, and searches."""
