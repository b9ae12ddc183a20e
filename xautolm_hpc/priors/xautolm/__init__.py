"""The priors ``xautolm`` and ``knn``: experiences move the distribution one after another."""
