"""The roadmap as a list of steps."""
