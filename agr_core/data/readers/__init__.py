"""Readers of raw data sets, one module each."""
