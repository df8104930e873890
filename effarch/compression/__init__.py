"""Techniques that make a trained model smaller."""
