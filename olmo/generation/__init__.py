"""Running a library: tokens, text, conversations."""
