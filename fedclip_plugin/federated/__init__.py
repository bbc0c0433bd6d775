"""FedCLIP under FedML: the trainer/aggregator pair, and the runner that mends FedML 0.9.6 over MPI by subclassing."""
