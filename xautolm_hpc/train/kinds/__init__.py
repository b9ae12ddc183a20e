"""How each kind of task is trained and scored, one file a kind.

``tasks.py`` is what the loop asks of a kind; ``classification.py``, ``extraction.py`` and ``generation.py`` answer it;
``answers.py`` and ``metrics.py`` compute their scores.
"""
