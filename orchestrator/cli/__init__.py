"""The command line, agr."""
