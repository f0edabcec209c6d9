"""The losses: each formula with its forward and its hand-derived backward."""
