"""Networks: ours from a design's rows, every other from its library; what they cost, and weights for them."""
