"""Ray on rented machines: start and join nodes safely, and submit sweeps to a cluster's head."""
