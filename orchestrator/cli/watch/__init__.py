"""Commands that watch sweeps: list, live view, board and report."""
