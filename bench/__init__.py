"""Measures this machine and this project on it; see README.md. Run from the repository's root."""
