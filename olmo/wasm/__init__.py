"""WebAssembly: the runtime that a model's library carries, its linking, and running it."""
