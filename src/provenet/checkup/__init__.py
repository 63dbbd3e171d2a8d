"""What is wrong with labelled pictures, before anybody trains on them."""
