"""Pipelines become jobs: the launchers on the login node, the wrapper on the compute node.

``wrapper`` must start quickly and on a bare node, so nothing is imported here.
"""
