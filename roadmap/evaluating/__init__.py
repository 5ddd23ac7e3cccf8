"""``roadmap evaluate``: trained networks on data sets, corruptions and robustness sets."""
