"""Delete checkpoints, weights and data that no sweep needs."""
