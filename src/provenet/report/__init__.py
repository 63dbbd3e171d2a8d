"""The report of a run or an evaluation: one page that needs nothing else, and the model card beside it."""
