"""``agr storage``."""
