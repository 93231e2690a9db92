"""Age groups, age encodings, and the vocabularies of gender and race."""
