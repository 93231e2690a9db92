"""Prediction with stored weights."""
