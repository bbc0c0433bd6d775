"""Before the first round: FedML's arguments, images and features of a rank, what ranks agree on, memory and disk."""
