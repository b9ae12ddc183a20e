"""Jobs become outcomes: every end a job can have is classified; nothing hangs, nothing is lost."""

from xautolm_hpc.gather.ends import Gathered, Watch, gather_ends, late_outcome

__all__ = ["Gathered", "Watch", "gather_ends", "late_outcome"]
