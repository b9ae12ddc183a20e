"""What the product costs and gains, each benchmark beside its goals: ``python -m benchmarks.NAME``."""
