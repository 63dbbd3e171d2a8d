"""The joints: data, network, loop and bundle put together, and the folder that a run leaves."""
