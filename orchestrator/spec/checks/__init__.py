"""Checks of a sweep file beyond its types."""
