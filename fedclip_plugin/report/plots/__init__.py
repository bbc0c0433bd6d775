"""AccuracyRow from plain arrays: matplotlib's object interface, readable in black and white, equal bytes each time."""
