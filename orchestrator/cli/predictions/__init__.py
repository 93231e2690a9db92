"""Commands on the stored predictions of trials: ensembles."""
