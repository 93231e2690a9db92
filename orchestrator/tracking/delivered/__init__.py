"""What a delivery has brought to the tracker, and the parts of it that have a state of their own."""
