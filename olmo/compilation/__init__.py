"""From a lowered module to a library."""
