"""Which network suits some photographs: what was found, as a table and as a page."""
