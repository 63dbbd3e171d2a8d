"""Training: settings, losses, optimizer, loop, log."""
