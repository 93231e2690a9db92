"""Train one face age / gender / race model from one TrialConfig. Knows nothing of sweeps, clusters, trackers."""
