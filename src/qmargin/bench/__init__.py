"""Measuring heads: what a step costs in seconds and memory, on this machine or by formula."""
