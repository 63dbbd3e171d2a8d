"""What the papers print, as data: one TOML file a paper. The networks never read it, so that it can disagree with them."""
