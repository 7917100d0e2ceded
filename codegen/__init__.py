"""Integer graph in, C library out."""
