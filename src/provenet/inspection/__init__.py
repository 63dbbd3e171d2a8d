"""Looking at a network without running it on a picture."""
