"""matrix.toml and the environment over it: what to build, with which caches, and every mistake in it."""
