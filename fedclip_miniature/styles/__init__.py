"""How the pictures are painted: one style a domain."""
