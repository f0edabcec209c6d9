"""What a training shows while it runs: a table and a curve in a notebook, a live line on a terminal, or plain lines."""
