"""Jobs become outcomes: every end a job can have is classified; nothing hangs, nothing is lost."""

from xautolm_hpc.gather.ends import AttemptResult, JobTracker, gather_ends, late_outcome

__all__ = ["AttemptResult", "JobTracker", "gather_ends", "late_outcome"]
