"""Methods that are solved in one round, from sums over the silos' images."""
