"""Verification of a storage against recorded digests, and repair of journals with a damaged end."""
