"""Deterministic simulation of whole sweeps: real driver logic in one process, without Ray, disks and servers."""
