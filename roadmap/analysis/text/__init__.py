"""Tables and statistics as text."""
