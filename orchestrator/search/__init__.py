"""Search algorithms, over an Optuna study."""
