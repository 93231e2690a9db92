"""Packed data sets: Parquet shards and a manifest."""
