"""What two networks differ in, causes before consequences, and what it costs."""
