"""``agr plan``."""
