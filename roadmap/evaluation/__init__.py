"""TrainedModel networks evaluated on data sets and corruptions."""
