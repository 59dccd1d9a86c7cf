"""Digests, actions and the stores that remember what an action made.

Nothing here knows of models, of the build front end or of a compiler.
"""
