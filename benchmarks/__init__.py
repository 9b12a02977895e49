"""Measurements behind the numbers in our documents; see README.md."""
