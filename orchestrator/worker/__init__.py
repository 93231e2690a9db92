"""Training of one trial on a worker, independent of Ray."""
