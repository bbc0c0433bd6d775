"""How a message is written: typed values as JSON, and beside them the memory of tensors."""
