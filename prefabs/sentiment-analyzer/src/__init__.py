"""What people feel in a text."""
