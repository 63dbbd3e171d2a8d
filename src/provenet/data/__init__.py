"""Images: what there is, in which order, decoded, distorted, in batches."""
