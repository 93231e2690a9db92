"""Synthetic faces, and file layouts of known data sets."""
