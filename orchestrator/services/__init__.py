"""The local stack: PostgreSQL, S3 and MLflow from pip packages."""
