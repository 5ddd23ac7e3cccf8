"""ImageNet-C's corruptions."""
