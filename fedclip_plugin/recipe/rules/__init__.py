"""The rules between keys, by subject."""
