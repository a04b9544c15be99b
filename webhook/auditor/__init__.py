"""`forestall auditor`: the findings on what a cluster stores, kept current while it runs."""
