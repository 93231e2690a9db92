"""Shared handling of command arguments: shell completion and output files."""
