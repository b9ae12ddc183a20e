"""Fine-tunes one pipeline on the compute node and writes one outcome, also when it fails.

Started by command line, imported by nobody. Read in this order::

    __main__.py    signals first, then the command
    worker.py      one attempt: files in, outcome out; a crash becomes an outcome here
    finetune.py    the flow: load, train, evaluate
    loop.py        epochs, optimiser steps, early stopping, the best epoch

Beside them: recipe (hyperparameters), data (the split as tokens), pretrained (model and tokeniser), anatomy and
methods (what of the model is trained), optim (optimiser, schedule), metrics, checkpoint, watch (time and signals),
heartbeat, energy, failures (which kind of failure an exception is).
"""
