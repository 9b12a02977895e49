"""DP generators of images: a library that can be imported in a notebook."""
