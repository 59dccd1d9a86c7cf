"""A store on a server: what is verified of what it says, and the protocols that move bytes."""
