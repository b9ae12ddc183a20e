"""The limit of a trial: its time, how much of it others took, and how it ends there."""
