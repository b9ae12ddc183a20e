"""The weights that a method does not train: half precision on a GPU, or four bits."""
