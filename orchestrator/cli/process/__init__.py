"""Driver processes: background start, following from another process, and Ctrl-C."""
