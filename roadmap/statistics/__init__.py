"""Statistics of accuracies over a few seeds."""
