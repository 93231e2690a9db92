"""Data: readers, packing, splits, cache, augmentation, sampling, batches."""
