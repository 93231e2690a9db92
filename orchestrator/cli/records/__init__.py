"""Commands that verify and repair the contents of a storage."""
