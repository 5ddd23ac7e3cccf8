"""The published numbers, as the package ships them."""
