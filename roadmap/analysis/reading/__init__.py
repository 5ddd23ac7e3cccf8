"""Records of runs, evaluations and benches as tables."""
