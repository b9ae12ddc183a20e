"""A run on disk, seen as history: what its driver, and everybody who only looks, reads and writes there."""
