"""The prediction page: a picture in, faces out."""
