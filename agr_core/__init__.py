"""Train one face age / gender / race model from one TrialConfig. Knows nothing of sweeps, clusters, trackers."""

import os

MAX_PIXELS = 80_000_000
"""Largest image that is decoded; a small file can claim to be far larger, and packed data sets come from buckets."""

# OpenCV reads this once, when it is loaded; nothing of ours loads it before this package.
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)
