"""The optimizers, one formula a file."""
