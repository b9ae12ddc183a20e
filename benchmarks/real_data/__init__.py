"""What models and searches reach on real data."""
