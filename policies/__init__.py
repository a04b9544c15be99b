"""One folder per policy; the loader finds them by their policy.py."""
