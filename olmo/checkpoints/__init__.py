"""Checkpoints of every format, as tensors that can be read in blocks."""
