"""Turn one sweep file into many trials, recorded and repeatable."""
