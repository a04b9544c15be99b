"""`forestall serve`: an AdmissionReview in, an AdmissionReview out."""
