"""Weights in, MLC's weight directory out."""
