"""Command-line interface, ``agr``."""
