"""Find sweeps in a storage, and read their state without their journals."""
