"""What the pictures show: one function an object, by class."""
