"""Is a library right: run, emulated, or looked at without its device."""
