"""Methods that train through the text tower, on cached image features."""
