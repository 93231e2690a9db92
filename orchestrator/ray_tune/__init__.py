"""The engine. The only package that imports ray."""
