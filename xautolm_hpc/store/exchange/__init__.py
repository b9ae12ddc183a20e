"""Stores in other forms: JSON lines, Parquet and CSV, redacted copies, and records of the reference implementation."""
