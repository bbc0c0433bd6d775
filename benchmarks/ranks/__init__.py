"""What the benchmarks run under mpirun."""
