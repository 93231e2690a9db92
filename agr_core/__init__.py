"""Training core: trains one face age / gender / race model from one TrialConfig; independent of the orchestrator."""

import os

MAX_PIXELS = 80_000_000
"""Maximum number of pixels of a decoded image. A small file can declare a huge image, and packed data sets come from
buckets."""

# OpenCV reads these variables when it is loaded, which this project never does before this package.
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)
# Image errors are reported once, with the file's name; OpenCV would print them without it.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
