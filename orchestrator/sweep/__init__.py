"""The driver's logic for one running sweep, independent of Ray."""
