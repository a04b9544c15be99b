"""Every namespace has a LimitRange with a memory default."""
