"""Records: what is asked for, checked and frozen."""
