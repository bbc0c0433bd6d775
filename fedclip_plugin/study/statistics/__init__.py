"""What may be said of a study's results: means and deviations over seeds, and intervals of differences."""
