"""What goes out with a release: where it comes from, and to which repositories it goes."""
