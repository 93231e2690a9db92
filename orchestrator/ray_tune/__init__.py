"""Sweeps on Ray Tune. The only package that imports ray, besides ``orchestrator.cluster``."""
