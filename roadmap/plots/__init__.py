"""What all charts share: theme, rows of steps, labels of points, and writing to a file."""
