"""Networks: from a design's rows or from a library; their costs and their weights."""
