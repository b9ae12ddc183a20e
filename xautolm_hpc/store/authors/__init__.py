"""Who set a mark, and whether it counts in this store: its key, its decisions, and what follows from both."""
