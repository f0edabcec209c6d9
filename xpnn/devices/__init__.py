"""Where arrays live: libraries and their devices, transfers, memory, and what a machine can do."""
