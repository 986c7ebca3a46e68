"""Whole jobs, built from the parts: what the Python API and the command line call. They print nothing."""
