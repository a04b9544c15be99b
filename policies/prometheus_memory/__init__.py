"""A Prometheus gets the memory that its series need."""
