"""How a classifier learns: from labels, or from unlabelled images too."""
