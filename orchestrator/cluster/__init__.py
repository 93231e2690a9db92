"""Ray on rented machines: start and join nodes safely, and give a cluster's head a sweep to run."""
