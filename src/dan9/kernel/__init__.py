"""The runtime: deterministic given a clock and a seed."""
