"""What lies in a folder or list of images: what is wrong with it, and which recipes fit it."""
