"""Age encodings, and vocabularies of gender, race and attributes."""
