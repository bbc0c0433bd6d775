"""What keeps a silo's images from showing in what it sends."""
