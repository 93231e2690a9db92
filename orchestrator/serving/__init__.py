"""The prediction page: upload a picture, get its faces."""
