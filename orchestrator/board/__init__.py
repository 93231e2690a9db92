"""Live web page about sweeps, updated from their journals."""
