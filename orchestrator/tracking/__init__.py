"""Where people browse results: MLflow."""
