"""Model in, integer graph out."""
