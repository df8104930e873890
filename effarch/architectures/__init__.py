"""Efficient building blocks, and the models made of them."""
