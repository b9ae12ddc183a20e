"""Whether the files of a model fit together.

::

    settings.py      what config.json says: nothing of an earlier task, nothing that no model can be built from
    weights.py       names, shapes and kinds of the tensors in the files, and the architecture
    values.py        whether the weights are finite numbers
    embeddings.py    ids, positions and token types, and the embeddings
    check_models.py  all of it for the models of a search, before the first trial
"""
