"""What each change is worth, given the others."""
