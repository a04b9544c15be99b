"""What is measured and logged outlives the pod that keeps it."""
