"""Design spaces: sampling designs, error distributions, and their figures."""
