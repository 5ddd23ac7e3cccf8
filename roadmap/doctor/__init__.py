"""``roadmap doctor``: the environment and what this machine can do."""
