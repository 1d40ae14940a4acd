"""The built-in blocks, one family a file."""
