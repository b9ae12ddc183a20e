"""The prior ``evidence``: a surrogate learns from experiences and ranks what is drawn."""
