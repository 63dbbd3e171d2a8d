"""The networks, one architecture a file, and the contract that all of them keep."""
