"""What is to be scraped can be: its annotations, monitors and Prometheus say the same, and something answers."""
