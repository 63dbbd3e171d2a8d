"""A network as a picture, and as a page to explore."""
