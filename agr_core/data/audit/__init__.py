"""Audit of a data set: duplicates, leaks, contradicting labels and other problems."""
