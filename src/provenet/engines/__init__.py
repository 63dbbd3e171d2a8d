"""Ways to run a network forward, and the measured choice among them."""
