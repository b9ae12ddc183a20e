"""How an optimiser step is computed: kernel by kernel, or captured once in a CUDA graph and replayed.

``runner.py`` is what the loop asks of either; ``eager.py`` and ``captured.py`` answer it, ``choose.py`` picks one.
"""
