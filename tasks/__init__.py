"""The build graph: matrix.toml to nodes, nodes to keys, keys to artifacts."""
