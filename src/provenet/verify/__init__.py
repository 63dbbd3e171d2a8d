"""The networks as built against what their papers print."""
