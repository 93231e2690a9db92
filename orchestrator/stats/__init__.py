"""Statistics without I/O: intervals and Pareto fronts."""
