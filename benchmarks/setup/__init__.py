"""What the benchmarks share: sizes, random models and images, jobs, ratios."""
