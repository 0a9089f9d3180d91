"""Tables of samples: columns in segments of rows that never change; a revision of a dataset lists its segments."""
