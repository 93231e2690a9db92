"""The journal of a sweep: its events, their storage in segments, and the folded state."""
