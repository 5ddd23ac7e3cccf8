"""What is kept on disk: run folders, evaluations, predictions, plans of sweeps, and who trains which run."""
