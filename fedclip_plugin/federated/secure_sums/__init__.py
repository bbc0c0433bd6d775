"""Secure sums: the server learns the sum of the silos' updates, and of none of them by itself."""
