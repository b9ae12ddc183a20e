"""The end at the limit: what a trial keeps of its budget, and what it foretells."""
