"""Figures and pictures of what a model predicts."""
