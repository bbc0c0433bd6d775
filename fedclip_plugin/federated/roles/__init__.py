"""Who trains and who averages: FedML's trainer and aggregator, and what they are made of."""
