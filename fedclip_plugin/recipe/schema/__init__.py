"""The keys of a recipe: their types, defaults and meaning."""
