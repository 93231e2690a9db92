"""Recorded learning curves, replayed under simulated workers through the search and the scheduler of a real sweep."""
