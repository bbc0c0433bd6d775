"""Many clients on few ranks, or in one process: the same trainer and aggregator, one sum a worker."""
