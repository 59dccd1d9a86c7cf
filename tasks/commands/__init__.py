"""Olmill's own doit commands, a module each."""
