"""What a report reads and computes of runs."""
