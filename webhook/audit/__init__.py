"""`forestall audit`: what a cluster stores, judged as if it were created now."""
