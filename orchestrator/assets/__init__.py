"""Data sets and weights: prepared once, stored by content, cached on each node."""
