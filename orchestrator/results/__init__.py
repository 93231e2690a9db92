"""Leaderboards, ablation tables and comparisons of recorded trials."""
