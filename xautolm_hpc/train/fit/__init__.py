"""Whether the files of a model fit together.

::

    weights.py       the tensors in the files and the architecture
    embeddings.py    ids, positions and token types, and the embeddings
    check_models.py  all of it for the models of a search, before the first trial
"""
