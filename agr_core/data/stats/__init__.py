"""Statistics of a data set as JSON and HTML."""
