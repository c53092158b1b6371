"""Swish, focal loss, Lion and squareplus for kcompile."""
