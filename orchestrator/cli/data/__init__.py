"""``agr data``: the commands for data sets."""
