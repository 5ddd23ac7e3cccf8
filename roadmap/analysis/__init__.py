"""What is read out of logged runs: tables, statistics, figures. Never imports torch."""
