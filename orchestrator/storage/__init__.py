"""Where sweeps, checkpoints and data sets are kept: a local folder or S3."""
