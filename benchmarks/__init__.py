"""Measures what this costs, beside what others cost: `python -m benchmarks`."""
