"""From raw files to a data set: rows, repeated texts, splits, the folder and its card."""
