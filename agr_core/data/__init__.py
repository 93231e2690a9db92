"""From raw images to batches: readers, packing, splits, cache, augmentation, sampling."""
