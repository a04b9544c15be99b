"""A Deployment can hand its volume over: the old pod lets go of it before the new one has to be ready."""
