"""Search for the best way to fine-tune a language model, as Slurm jobs, with what past searches learned.

profile   meta-features of the task and of the system
priors    past experiences, weighed by similarity, become a distribution over pipelines
sample    draws a generation of pipelines; what cannot run is never submitted
submit    each pipeline becomes a job
train     fine-tunes, evaluates, measures time, memory and energy, on the compute node
gather    waits, classifies every end a job can have
store     commits the experiences, successes and failures, for all later searches
report    tables and figures of a run
driver    does these in this order, generation after generation
"""

__version__ = "0.1.0"
