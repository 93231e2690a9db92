"""Training batches: cache of decoded images, samplers, loader."""
