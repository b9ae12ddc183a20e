"""Fine-tunes one pipeline on the compute node and writes one outcome, also when it fails.

Started by command line, imported by nobody. Read in this order::

    __main__.py    signal handlers first, then the command
    worker.py      one attempt: files in, outcome out; a crash becomes an outcome here
    finetune.py    the flow: load, train, evaluate
    prepare.py     device, data, task, model, method, optimiser
    loop.py        epochs, optimiser steps, early stopping, the best epoch

Beside them: kinds (how each kind of task is trained and scored), recipe (hyperparameters), data (rows, tokens,
batches), pretrained (model and tokeniser), anatomy and methods (which parameters are trained), optim (optimiser,
schedule), checkpoint, trial_budget (time limit and signals), heartbeat, energy, process_group and collectives (several
ranks), exceptions (which kind of failure an exception is).
"""
