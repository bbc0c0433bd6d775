"""Small programs that ``fedclip doctor`` runs in a process of their own."""
