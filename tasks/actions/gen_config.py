"""Generate a model's chat configuration for one quantization and window."""
