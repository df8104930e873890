"""What techniques of learning buy."""
