"""What people and programs see of a run: events, and those who listen to them."""
