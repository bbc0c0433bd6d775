"""A study's results as tables, with intervals."""
