"""FedML's server and client managers and its runner, mended for MPI by subclassing."""
