"""Forecast of a sweep's duration and cost: its real search and scheduler on simulated workers."""
