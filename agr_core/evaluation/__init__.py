"""Metrics and plots of a model's predictions."""
