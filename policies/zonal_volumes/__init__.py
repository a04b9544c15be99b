"""Every container has a memory limit."""
